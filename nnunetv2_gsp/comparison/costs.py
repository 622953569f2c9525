"""Holds what a trained model costs: parameters, MACs, times, memory and file size."""

from dataclasses import dataclass

IN_WORDS = (
    "Parameters: all that are learnt, as in the checkpoint. MACs: of one patch, counted on the network that "
    "the model's plans name; blank where the checkpoint holds another one. Epoch: median over epochs, then "
    "over folds, on the machine that trained. Prediction: median time from one case to the next in the log of "
    "the validation. GPU memory: the largest in the logs; nnU-Net itself logs none. Checkpoint: of one fold."
)


@dataclass(frozen=True)
class ModelCost:
    """What a trained model costs, from nnU-Net's own files; None where it was not logged.

    Attributes:
        parameters: number of learnt parameters, from 1 on.
        macs: multiply-accumulates of a forward pass of one patch, batch 1.
        epoch_s: median duration of an epoch in seconds.
        prediction_s: median time for a validation case in seconds.
        gpu_memory_gib: largest GPU memory that the logs name, in GiB.
        checkpoint_bytes: size in bytes of one fold's final checkpoint.
    """

    parameters: int | None = None
    macs: int | None = None
    epoch_s: float | None = None
    prediction_s: float | None = None
    gpu_memory_gib: float | None = None
    checkpoint_bytes: int | None = None
