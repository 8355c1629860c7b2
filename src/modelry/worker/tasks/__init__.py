"""Tasks: from what people send to the tensors a model takes. The same code evaluates and serves."""

from modelry.worker.tasks.images import image_tensor
from modelry.worker.tasks.inputs import prepare
from modelry.worker.tasks.opening import example_text, open_task

__all__ = ["example_text", "image_tensor", "open_task", "prepare"]
