"""What can be checked before anything is paid for."""
