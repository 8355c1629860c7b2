"""Early stopping: watches the validation loss and keeps the best weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass
class EarlyStopping:
    """Ends the training after `patience` epochs without a better validation loss."""

    patience: int
    best_loss: float = float("inf")
    #: The epoch of the best loss, counted from 1; 0 before the first.
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def see(self, loss: float, epoch: int, network: nn.Module) -> bool:
        """Takes an epoch's validation loss; True when it is time to stop."""
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best_weights = {
                name: value.detach().clone() for name, value in network.state_dict().items()
            }
        return epoch - self.best_epoch >= self.patience
