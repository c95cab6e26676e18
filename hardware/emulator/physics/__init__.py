"""What an emulated job returns: noise, reads, times."""
