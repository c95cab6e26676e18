"""One page that shows the attention of a trained model on a text: tokens, weights, couplings.

:func:`write_page` takes a model and tokens; :func:`write_layers` takes the numbers of layers, of
whatever model. ``qattn show`` is the command.
"""

from qattn.show.capture import layers_of
from qattn.show.layer import LayerAttention
from qattn.show.page import write_layers, write_page

__all__ = ["LayerAttention", "layers_of", "write_layers", "write_page"]
