"""Why a model answered as it did: methods that only ask the model again, so that they work with every runtime.

opening.py      an `ExplainCall` to rows for the model, and their outputs to an `ExplainAnswer`
absence.py      what an input looks like where parts of it are absent
perturbed.py    the rows, made when they are taken
occlusion.py    windows over a picture
kernel_shap.py  coalitions of features, and the shares that are Shapley values
scores.py       the number that is explained
"""

from modelry.worker.explain.opening import open_explain

__all__ = ["open_explain"]
