"""Checks plans, names and tensors of a model before a network is built from them."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import nnunetv2
import torch
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ImageNormalization
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.utils import recursive_find_resampling_fn_by_name
from nnunetv2.utilities.file_path_utilities import convert_trainer_plans_config_to_identifier
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.label_handling.label_handling import LabelManager, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.architectures.architecture import entry_schemas
from nnunetv2_gsp.architectures.entries import COUNT
from nnunetv2_gsp.architectures.from_plans import GSP_NETWORK
from nnunetv2_gsp.errors import MissingInputError
from nnunetv2_gsp.nnunet import find_trainer
from nnunetv2_gsp.sharing.bundle import DATASET, NAME, PLANS
from nnunetv2_gsp.sharing.refused import RefusedError, check_schema, refusing

if TYPE_CHECKING:  # takes seconds to import
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# nnU-Net imports whatever these arguments name, and calls it with the plans' arguments
_OPERATORS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv_op": (nn.Conv2d, nn.Conv3d),
    "norm_op": (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.BatchNorm2d, nn.BatchNorm3d),
    "dropout_op": (nn.Dropout, nn.Dropout2d, nn.Dropout3d),
    "nonlin": (nn.LeakyReLU, nn.ReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish),
}
_PER_STAGE = 16  # stages, and convolutions in each: more than any plans have, and few enough to build at once


@dataclass(frozen=True)
class Model:
    """Plans and names from which nnU-Net's prediction builds a network.

    Attributes:
        trainer: name of the trainer's class.
        configuration: name of the configuration in the plans.
        plans: content of plans.json with this configuration alone, which inherits from no other.
        dataset_json: content of the dataset.json file.
    """

    trainer: str
    configuration: str
    plans: dict[str, Any]
    dataset_json: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Path of the model folder relative to nnUNet_results.

        Examples:
            >>> plans = {"dataset_name": "Dataset004_Hippocampus", "plans_name": "nnUNetPlans"}
            >>> Model("nnUNetTrainerGSP", "3d_fullres", plans, {}).folder.as_posix()
            'Dataset004_Hippocampus/nnUNetTrainerGSP__nnUNetPlans__3d_fullres'
        """
        return Path(
            self.plans["dataset_name"],
            convert_trainer_plans_config_to_identifier(self.trainer, self.plans["plans_name"], self.configuration),
        )

    def network(self) -> GSPUNet:
        """Return the network that nnU-Net builds for prediction, without memory for its weights.

        All names in plans and dataset.json that nnU-Net looks up are checked first.

        Raises:
            RefusedError: plans or dataset.json name something unsound, or the trainer does not exist.
        """
        check_schema(self.plans, _plans_schema(self.configuration), PLANS)
        check_schema(self.dataset_json, _DATASET_SCHEMA, DATASET)
        trainer = self._trainer_class()
        with refusing("plans and a dataset.json that nnU-Net makes a network of"):
            plans = PlansManager(self.plans)
            configuration = plans.get_configuration(self.configuration)
            _check_lookups(plans, configuration, self.dataset_json)
            with torch.device("meta"):
                network = trainer.build_network_architecture(
                    plans,
                    configuration,
                    determine_num_input_channels(plans, configuration, self.dataset_json),
                    plans.get_label_manager(self.dataset_json).num_segmentation_heads,
                    enable_deep_supervision=False,
                )
        if not isinstance(network, GSPUNet):
            raise RefusedError(f"plans of which {self.trainer} makes a GSPUNet", f"a {type(network).__name__}")
        return network

    def _trainer_class(self) -> "type[nnUNetTrainer]":
        try:
            return find_trainer(self.trainer)
        except MissingInputError as missing:
            raise RefusedError(missing.expected, missing.got, remedy=missing.remedy) from missing


def without_aliases(network: GSPUNet, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return each tensor of a state_dict once, under the first of its names.

    Args:
        network: network on any device, also the meta device; only its names, shapes and settings are used.
        state_dict: name -> tensor of the trained network, as nnU-Net's checkpoints hold it.

    Raises:
        RefusedError: it is not a state_dict of this network with its settings and finite weights.
    """
    first_names = _first_names(network)
    _check_same_names(first_names, state_dict)
    weights = {first: state_dict[first].contiguous() for first in first_names.values()}
    for name, first in first_names.items():
        if not torch.equal(state_dict[name], weights[first]):
            raise RefusedError(f"{name} and {first} to be one tensor, as in the network", "two")
    check_weights(network, weights)
    return weights


def with_aliases(network: GSPUNet, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state_dict that nnU-Net expects; the inverse of `without_aliases`.

    nnU-Net's blocks register each layer under two names. The network, not a file, tells which names share a tensor.

    Args:
        network: network on any device, also the meta device.
        weights: first name of each tensor -> tensor.
    """
    return {name: weights[first] for name, first in _first_names(network).items()}


def check_weights(network: GSPUNet, weights: Mapping[str, Tensor]) -> None:
    """Check that tensors are those of a network: each occurs once, with the right shape and dtype, and is finite.

    Args:
        network: network on any device, also the meta device.
        weights: first name of each tensor -> tensor.

    Raises:
        RefusedError: the tensors are others, or were trained with other GSP settings.
    """
    expected = _unique_tensors(network)
    _check_same_names(expected, weights)
    for name, tensor in weights.items():
        wanted = expected[name]
        if (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype):
            raise RefusedError(
                f"{name} as in the network of the plans, {wanted.dtype} of {tuple(wanted.shape)}",
                f"{tensor.dtype} of {tuple(tensor.shape)}",
            )
        if not torch.isfinite(tensor).all():
            raise RefusedError(f"finite values in {name}", "some that are not finite")
    if not torch.equal(weights["gsp_settings"], network.shift_settings.to_tensor()):
        raise RefusedError("weights trained with the GSP settings of the plans", "weights of other GSP settings")


def n_weight_bytes(network: GSPUNet) -> int:
    """Return the total size of the network's tensors in bytes, each counted once."""
    return sum(tensor.nbytes for tensor in _unique_tensors(network).values())


def _unique_tensors(network: GSPUNet) -> dict[str, Tensor]:
    state_dict = network.state_dict()
    return {first: state_dict[first] for first in _first_names(network).values()}


def _first_names(network: GSPUNet) -> dict[str, str]:
    """Return, for every name in the network's state_dict, the first name of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in network.state_dict(keep_vars=True).items()}


def _check_same_names(expected: Iterable[str], found: Iterable[str]) -> None:
    if difference := set(expected) ^ set(found):
        name = min(difference)
        if name in expected:
            raise RefusedError(f"the tensor {name}", "none")
        raise RefusedError("tensors of the network alone", f"{name}, which is no tensor of the network")


def _check_lookups(plans: PlansManager, configuration: ConfigurationManager, dataset_json: dict[str, Any]) -> None:
    """Refuse names that refer to anything other than nnU-Net's own classes and functions of that purpose.

    nnU-Net accepts any attribute of its modules with the given name, also other functions or imported packages.
    """
    readers = [plans.image_reader_writer_class]
    if dataset_json.get("overwrite_image_reader_writer", "None") != "None":  # nnU-Net writes "None" for none
        readers.append(recursive_find_reader_writer_by_name(dataset_json["overwrite_image_reader_writer"]))
    for found, base in (
        (plans.label_manager_class, LabelManager),
        (configuration.preprocessor_class, DefaultPreprocessor),
        *((reader, BaseReaderWriter) for reader in readers),
        *((_normalization(scheme), ImageNormalization) for scheme in configuration.normalization_schemes),
    ):
        if not (inspect.isclass(found) and issubclass(found, base)):
            raise RefusedError(f"the name of a {base.__name__} of nnU-Net in {PLANS} or {DATASET}", _name_of(found))
    for data in ("data", "seg", "probabilities"):
        function = recursive_find_resampling_fn_by_name(configuration.configuration[f"resampling_fn_{data}"])
        if not (inspect.isfunction(function) and function.__module__.startswith("nnunetv2.preprocessing.resampling.")):
            raise RefusedError(f"the name of a function of nnU-Net that resamples in {PLANS}", _name_of(function))


def _normalization(scheme: str) -> Any:
    return recursive_find_python_class(
        str(Path(nnunetv2.__path__[0], "preprocessing", "normalization")),
        scheme,
        "nnunetv2.preprocessing.normalization",
    )


def _name_of(found: Any) -> str:
    return getattr(found, "__name__", "a name of nothing there")


def _names_of(operator: Callable[..., Any]) -> list[str]:
    return [f"torch.nn.{operator.__name__}", f"{operator.__module__}.{operator.__name__}"]


def _plans_schema(configuration: str) -> dict[str, Any]:
    operators = {
        argument: {"enum": [None, *(name for operator in allowed for name in _names_of(operator))]}
        for argument, allowed in _OPERATORS.items()
    }
    arguments = {"type": ["object", "null"], "additionalProperties": {"type": ["number", "boolean"]}}
    # JSON Schema asks maximum of numbers alone, and maxItems of lists
    entries = {name: {**schema, "maxItems": _PER_STAGE} for name, schema in entry_schemas().items()}
    few = {
        name: {**entries.pop(name), "maximum": _PER_STAGE, "items": {**COUNT, "maximum": _PER_STAGE}}
        for name in ("n_stages", "n_conv_per_stage", "n_conv_per_stage_decoder")
    }
    architecture = {
        "network_class_name": {"enum": [GSP_NETWORK]},
        "_kw_requires_import": {"type": "array", "items": {"enum": list(_OPERATORS)}},
        "arch_kwargs": _an_object(
            {
                **operators,
                "norm_op_kwargs": arguments,
                "dropout_op_kwargs": arguments,
                "nonlin_kwargs": arguments,
                **few,
            },
            entries,
        ),
    }
    # names of folders in nnU-Net
    stages = {"anyOf": [{"type": "null"}, NAME, {"type": "array", "items": NAME}]}
    one = _an_object(
        {"architecture": _an_object(architecture), "data_identifier": NAME},
        {"previous_stage": stages, "next_stage": stages, "inherits_from": {"type": "null"}},
    )
    return _an_object(
        {
            "dataset_name": NAME,
            "plans_name": NAME,
            "configurations": {**_an_object({configuration: one}), "additionalProperties": False},
        }
    )


def _an_object(required: dict[str, Any], optional: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


# nnU-Net appends the ending to the names of files that it writes
_DATASET_SCHEMA = _an_object(
    {"labels": {"type": "object"}, "file_ending": {"type": "string", "pattern": r"^[\w.-]+\Z", "maxLength": 100}}
)
