"""Tasks: from what people send to the tensors a model takes. The same code evaluates and serves."""

from modelry.worker.tasks.images import image_tensor
from modelry.worker.tasks.inputs import prepare

__all__ = ["image_tensor", "prepare"]
