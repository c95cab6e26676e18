"""A small transformer language model with any of the attention layers, and text from it."""

from qattn.transformer.generation import LanguageModel, Step, generate, stream
from qattn.transformer.model import Transformer

__all__ = ["LanguageModel", "Step", "Transformer", "generate", "stream"]
