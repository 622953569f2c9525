"""Measures parameters, MACs, activation memory and latency of a GSP network beside stock nnU-Net."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.helper import convert_dim_to_conv_op, get_matching_instancenorm
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunetv2_gsp.architectures.entries import COUNT, each, fits
from nnunetv2_gsp.architectures.from_plans import PLAIN_NETWORK, buildable_architecture, stock_architecture
from nnunetv2_gsp.counting import (
    built,
    channels_of,
    count_activation_bytes,
    count_macs,
    count_parameters,
    time_networks,
)
from nnunetv2_gsp.errors import ConflictingInputError, InputError, RefusedSettingsError
from nnunetv2_gsp.files import check_target, write_json, write_text
from nnunetv2_gsp.nnunet import check_device
from nnunetv2_gsp.plans import (
    Configuration,
    effective_configurations,
    load_dataset_json,
    load_plans,
    preprocessed_folder,
    with_shifts,
    with_topology,
)
from nnunetv2_gsp.plans_templates import Template, load_template
from nnunetv2_gsp.tables import Table
from nnunetv2_gsp.timing import Timing, environment
from nnunetv2_gsp.wording import times

# PyTorch has a type of error for GPUs alone; for CPUs, mps and sizes beyond 64 bits only the message tells
_TOO_LARGE = ("out of memory", "can't allocate memory", "Storage size calculation overflowed")
_DECIMAL = (1000, ("", " k", " M", " G", " T"))
_BINARY = (1024, (" B", " KiB", " MiB", " GiB", " TiB"))


@dataclass(frozen=True)
class NetworkCost:
    """Costs of one network; `Profile.conventions` says how each value is counted.

    Attributes:
        network: name of the network's class.
        parameters: number of learnt parameters.
        macs: number of multiply-accumulates in a forward pass of one patch.
        flops: number of floating point operations in a forward pass of one patch, 2 per MAC.
        activation_bytes: bytes that a training step of the planned batch keeps from forward to backward pass.
        latency: time of a forward pass of one patch, in milliseconds.
    """

    network: str
    parameters: int
    macs: int
    flops: int
    activation_bytes: int
    latency: Timing


@dataclass(frozen=True)
class Profile:
    """Costs of stock nnU-Net and of its GSP counterpart, side by side.

    Attributes:
        source: dataset, plans and configuration, or template, that the networks come from; for the title.
        input_channels: channels of the image, with those of a cascade's previous stage.
        output_channels: channels of the logits, one for each segmentation head.
        patch_size: patch size in voxels along each axis, 2D or 3D.
        batch_size: number of patches in a training step.
        device: device on which latency was measured: cpu, mps, or cuda with the card's name.
        rounds: number of timed forward passes of each network.
        environment: machine and versions that latency depends on, by name.
        stock: costs of the stock network.
        gsp: costs of the GSP network.
    """

    source: str
    input_channels: int
    output_channels: int
    patch_size: tuple[int, ...]
    batch_size: int
    device: str
    rounds: int
    environment: dict[str, str | int]
    stock: NetworkCost
    gsp: NetworkCost

    @property
    def ratios(self) -> dict[str, float]:
        """Name of each value -> stock divided by GSP, for latency of the medians."""
        counts = {
            name: getattr(self.stock, name) / getattr(self.gsp, name)
            for name in ("parameters", "macs", "flops", "activation_bytes")
        }
        return {**counts, "latency": self.stock.latency.median_ms / self.gsp.latency.median_ms}

    @property
    def conventions(self) -> dict[str, str]:
        """Name of each value -> sentence that says how it is counted."""
        return {
            "parameters": "all that is learnt, with the heads of deep supervision.",
            "MACs": (
                "half of what torch's FlopCounterMode counts: convolutions, transposed ones too, and nothing of "
                "norms, nonlinearities, pooling, interpolation and shifts; one forward pass, batch 1, without "
                "deep supervision."
            ),
            "FLOPs": "2 per MAC.",
            "activations": (
                f"bytes that autograd keeps from the forward pass of a training step for its backward "
                f"pass; fp32, batch {self.batch_size}, with deep supervision, every storage once, the "
                f"input included; without parameters, gradients, optimizer, loss and work space."
            ),
            "latency": (
                f"forward pass on {self.device}, fp32 (on CUDA TF32 convolutions, cudnn.benchmark), eager, "
                f"batch 1, without deep supervision; median, 10th and 90th percentile of {self.rounds} rounds "
                f"in which the two take turns, after one to warm up."
            ),
            "stock / GSP": "how many times less GSP takes, and its speed-up; below 1 where it takes more.",
        }

    def table(self) -> str:
        """Return the profile as a table for the screen."""
        return "\n".join(
            [
                *self._title(),
                "",
                self._costs().text(),
                "",
                *(f"{name}: {convention}" for name, convention in self.conventions.items()),
            ]
        )

    def markdown(self) -> str:
        """Return the profile as Markdown."""
        return "\n".join(
            [
                "  \n".join(self._title()),
                "",
                self._costs().markdown(),
                "",
                *(f"- {name}: {convention}" for name, convention in self.conventions.items()),
                "",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON content, with ratios and conventions; latency in milliseconds."""
        return {**asdict(self), "ratios": self.ratios, "conventions": self.conventions}

    def _title(self) -> list[str]:
        machine = self.environment
        return [
            (
                f"{self.source}: input {times((self.input_channels, *self.patch_size))} (channels × patch), "
                f"{self.output_channels} output channels"
            ),
            (
                f"{self.device}; {machine['processor']}, {machine['threads']} threads; Python {machine['python']}, "
                f"torch {machine['torch']}"
            ),
        ]

    def _costs(self) -> Table:
        def row(label: str, name: str, units: tuple[int, tuple[str, ...]]) -> tuple[str, ...]:
            return (
                label,
                _scaled(getattr(self.stock, name), *units),
                _scaled(getattr(self.gsp, name), *units),
                f"{self.ratios[name]:.2f}×",
            )

        return Table(
            ["", f"{self.stock.network} (stock)", self.gsp.network, "stock / GSP"],
            [
                row("parameters", "parameters", _DECIMAL),
                row("MACs", "macs", _DECIMAL),
                row("FLOPs", "flops", _DECIMAL),
                row(f"activations, batch {self.batch_size}", "activation_bytes", _BINARY),
                (
                    "latency, ms (10-90 %)",
                    str(self.stock.latency),
                    str(self.gsp.latency),
                    f"{self.ratios['latency']:.2f}×",
                ),
            ],
        )


def profile(
    *,
    dataset: str | None = None,
    configuration: str | None = None,
    plans_name: str | None = None,
    template: str | None = None,
    settings: Mapping[str, Any] | None = None,
    patch_size: Sequence[int] | None = None,
    input_channels: int | None = None,
    classes: int | None = None,
    device: str = "cpu",
    rounds: int = 5,
    json_file: Path | None = None,
    markdown_file: Path | None = None,
    overwrite: bool = False,
) -> Profile:
    """Profile the network of a dataset's plans, or of a template if no dataset is given, and write what it costs.

    Args:
        dataset: name or id of the dataset, as nnU-Net takes it; None profiles a template.
        configuration: name of a configuration of the dataset's plans; None takes 3d_fullres.
        plans_name: name of stock or GSP plans of the dataset; None takes nnUNetPlans.
        template: name of a template, or path of its .json file; None takes default.
        settings: name in `plans_templates.schema` -> value that replaces the template's.
        patch_size: patch size in voxels along each axis, 2D or 3D; None takes the template's.
        input_channels: channels of the image that the template's network takes, from 1 on; None takes 4.
        classes: number of segmentation heads of the template's network, from 1 on; None takes 4.
        device: device to measure latency on, cpu, cuda or mps; the other values do not depend on it.
        rounds: number of timed forward passes of each network, from 1 on.
        json_file: file to write all values to; None writes none.
        markdown_file: file to write the table to; None writes none.
        overwrite: True replaces existing files of these names.

    Raises:
        InputError: arguments for a dataset and for a template are mixed, a file exists or can't be written, or as
            `profile_dataset` and `profile_template`.
    """
    of_plans = (configuration, plans_name)
    of_a_template = (template, settings or None, patch_size, input_channels, classes)
    if any(argument is not None for argument in (of_plans if dataset is None else of_a_template)):
        raise ConflictingInputError(
            "either a dataset, with a configuration and plans, which say all, or a template, "
            "with settings, patch, channels and classes",
            "some of both",
            remedy="drop one side",
        )
    files = {"json_file": json_file, "markdown_file": markdown_file}
    for parameter, file in files.items():
        if file is not None:
            check_target(file, overwrite, parameters=(parameter, "overwrite"))
    if dataset is not None:
        measured = profile_dataset(dataset, configuration or "3d_fullres", plans_name or "nnUNetPlans", device, rounds)
    else:
        measured = profile_template(
            load_template(template or "default", settings),
            patch_size,
            4 if input_channels is None else input_channels,
            4 if classes is None else classes,
            device,
            rounds,
        )
    if json_file is not None:
        write_json(measured.to_dict(), json_file)
    if markdown_file is not None:
        write_text(measured.markdown(), markdown_file)
    return measured


def profile_dataset(dataset: str, configuration: str, plans_name: str, device: str, rounds: int) -> Profile:
    """Profile the network of a dataset's plans, stock or GSP, beside its counterpart.

    Args:
        dataset: name or id, as nnU-Net takes it.
        configuration: name of a configuration of the plans, such as 3d_fullres.
        plans_name: name of stock or GSP plans of the dataset, such as nnUNetPlans.
        device: device to measure latency on, cpu, cuda or mps; the other values do not depend on it.
        rounds: number of timed forward passes of each network, from 1 on.

    Raises:
        InputError: dataset, plans, configuration or device is missing, or the plans make no network, or none that fits
            into memory.
    """
    _check_device_and_rounds(device, rounds)
    folder = preprocessed_folder(dataset)
    content = load_plans(folder, plans_name)
    effective_configurations(content)  # or the plans are no use
    plans = PlansManager(content)
    dataset_json = load_dataset_json(folder)
    if configuration not in plans.available_configurations:
        raise InputError(
            f"a configuration of {plans_name} ({', '.join(plans.available_configurations)})",
            configuration,
            parameters=["configuration"],
        )
    planned = plans.get_configuration(configuration).configuration
    source = f"{folder.name}, {plans_name}, {configuration}"
    with _mistakes_in(source):
        gsp = buildable_architecture(planned["architecture"], planned["patch_size"])
        stock = {**planned, "architecture": stock_architecture(planned["architecture"])}
        return _profile(
            source,
            stock,
            gsp,
            *channels_of(content, configuration, dataset_json),
            device,
            rounds,
        )


def profile_template(
    template: Template, patch_size: Sequence[int] | None, input_channels: int, classes: int, device: str, rounds: int
) -> Profile:
    """Profile a template without a dataset, beside the stock network of the same stages.

    Settings that the template leaves out are as nnU-Net plans them for this patch at isotropic spacing, with its
    smallest batch.

    Args:
        template: settings of the GSP network.
        patch_size: patch size in voxels along each axis, 2D or 3D; None takes the template's.
        input_channels: channels of the image, from 1 on.
        classes: number of segmentation heads, from 1 on.
        device: device to measure latency on, cpu, cuda or mps; the other values do not depend on it.
        rounds: number of timed forward passes of each network, from 1 on.

    Raises:
        InputError: the patch size is missing, or does not fit the network or memory; the settings make no network; or
            the device is not available.
    """
    _check_device_and_rounds(device, rounds)
    if min(input_channels, classes) < 1:
        raise InputError(
            "at least one channel and one class",
            f"{input_channels} and {classes}",
            parameters=["input_channels", "classes"],
        )
    patch = _patch_for(template, patch_size)
    template = replace(template, settings={**template.settings, "patch_size": patch})
    source = f"template {template.name}"
    with _mistakes_in(source):
        stock = with_topology(_planned_configuration(patch), template)
        gsp = with_shifts(stock, template)["architecture"]
        return _profile(source, stock, gsp, input_channels, classes, device, rounds)


def _profile(
    source: str,
    stock: Configuration,
    gsp: dict[str, Any],
    input_channels: int,
    output_channels: int,
    device: str,
    rounds: int,
) -> Profile:
    """Count and time the network of a stock configuration, and that of `gsp`, the entry that replaces it."""
    shape = (input_channels, *stock["patch_size"])
    builders = {
        name: partial(built, architecture, input_channels, output_channels)
        for name, architecture in (("stock", stock["architecture"]), ("gsp", gsp))
    }
    counts = {name: _counts(build, shape, stock["batch_size"]) for name, build in builders.items()}
    timings = time_networks(builders, shape, device, rounds)
    costs = {name: NetworkCost(latency=timings[name], **counts[name]) for name in builders}
    return Profile(
        source,
        input_channels,
        output_channels,
        shape[1:],
        stock["batch_size"],
        _described(device),
        rounds,
        environment(),
        **costs,
    )


def _counts(build: Callable[..., nn.Module], shape: tuple[int, ...], batch_size: int) -> dict[str, Any]:
    """Count on the meta device, where tensors have a shape but no content; `shape` is (C, *patch)."""
    predicting, training = (build(device="meta", deep_supervision=is_training) for is_training in (False, True))
    macs = count_macs(predicting, torch.empty(1, *shape, device="meta"))
    return {
        "network": type(predicting).__name__,
        "parameters": count_parameters(predicting),
        "macs": macs,
        "flops": 2 * macs,
        "activation_bytes": count_activation_bytes(training, torch.empty(batch_size, *shape, device="meta")),
    }


def _planned_configuration(patch_size: Sequence[int]) -> Configuration:
    """Return the network's part of what nnU-Net's ExperimentPlanner writes for a patch at isotropic spacing."""
    n_axes = len(patch_size)
    _, strides, kernel_sizes, _, _ = get_pool_and_conv_props([1.0] * n_axes, patch_size, 4, 999999)
    conv_op = convert_dim_to_conv_op(n_axes)
    norm_op = get_matching_instancenorm(conv_op)
    n_stages, widest = len(strides), {2: 512, 3: 320}[n_axes]
    kwargs = {
        "n_stages": n_stages,
        "features_per_stage": [min(widest, 32 * 2**stage) for stage in range(n_stages)],
        "conv_op": f"{conv_op.__module__}.{conv_op.__name__}",
        "kernel_sizes": kernel_sizes,
        "strides": strides,
        "n_conv_per_stage": [2] * n_stages,
        "n_conv_per_stage_decoder": [2] * (n_stages - 1),
        "conv_bias": True,
        "norm_op": f"{norm_op.__module__}.{norm_op.__name__}",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    architecture = {
        "network_class_name": PLAIN_NETWORK,
        "arch_kwargs": kwargs,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    # without data there is nothing to normalise
    return {"patch_size": list(patch_size), "batch_size": 2, "use_mask_for_norm": [], "architecture": architecture}


def _patch_for(template: Template, patch_size: Sequence[int] | None) -> list[int]:
    """Return the requested patch size, or else the template's."""
    patch = patch_size or template.settings.get("patch_size")
    if not patch:
        raise InputError(
            f"a patch size, which template {template.name} leaves to a dataset's plans",
            "none",
            parameters=["patch_size"],
        )
    axes = [template.n_axes] if template.n_axes else [2, 3]
    if len(patch) not in axes or not fits(patch, each(COUNT)):
        raise InputError(
            f"a patch of {' or '.join(map(str, axes))} positive sizes for template {template.name}",
            times(patch),
            parameters=["patch_size"],
        )
    return list(patch)


def _check_device_and_rounds(device: str, rounds: int) -> None:
    check_device(device)
    if rounds < 1:
        raise InputError("at least 1 round", str(rounds), parameters=["rounds"])


@contextmanager
def _mistakes_in(source: str) -> Iterator[None]:
    """Turn errors of settings that make no network, or too large a one, into InputError that names their source."""
    where = f"{source[0].upper()}{source[1:]}"
    try:
        yield
    except (ValueError, NotImplementedError) as error:
        raise RefusedSettingsError(str(error), where) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _TOO_LARGE):
            raise
        raise InputError(
            "feature maps that fit into memory",
            "a patch or a batch too large for it",
            where=where,
            remedy="choose smaller ones",
        ) from error


def _described(device: str) -> str:
    return f"cuda ({torch.cuda.get_device_name()})" if device == "cuda" else device


def _scaled(value: float, base: int, units: Sequence[str]) -> str:
    """Return a number with the unit that keeps it short."""
    powers = range(len(units) - 1)
    power = next((power for power in powers if round(value / base**power, 2) < base), len(units) - 1)
    return f"{value / base**power:.2f}{units[power]}"
