"""Times and memory of predictions: a patch, beside copying the fewest bytes, and a case by nnU-Net's sliding window."""

import os
from collections.abc import Iterator, Mapping, Sequence

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

from benchmarks.gpu.meters import allocated_bytes, free, peak_gibibytes
from benchmarks.gpu.networks import CONFIGURATION, DATASET, TRAINERS, network_of, plans_of
from benchmarks.gpu.settings import GSP, STOCK, Contender, Settings
from benchmarks.measuring import WrongError, ratios, relative_error
from benchmarks.models import CHANNELS, CLASSES, Plan
from benchmarks.page import Row, Table
from nnunetv2_gsp.timing import Timing, interleaved
from nnunetv2_gsp.wording import times

COPY = "copy"
HALF_BYTES = 2
# of the logits of a case, by their norm: half precision, in another order
TOLERANCE = 5e-2


def tables(settings: Settings) -> Iterator[Table]:
    """Time a patch and a case, eager, which is nnU-Net's default, and compiled."""
    rows: list[Row] = []
    expected, wrong = dict[str, Tensor](), list[str]()
    for way in reversed(settings.ways):
        contenders = {each: Prediction(each, way, settings) for each in settings.contenders}
        rows.append(_patch_row(way, contenders, settings))
        yield _table(rows, settings)
        rows.append(_case_row(way, contenders, expected, wrong, settings))
        yield _table(rows, settings)
        del contenders
        free()
    if wrong:
        raise WrongError("; ".join(wrong))


def warm_gsp(settings: Settings) -> Iterator[Table]:
    """Compile what `tables` will need, untimed."""
    _warm(GSP, settings)
    yield from ()


def warm_triton(settings: Settings) -> Iterator[Table]:
    """Compile what `tables` will need, untimed."""
    _warm(Contender("GSP", settings.asked_engine), settings)
    yield from ()


def warm_stock(settings: Settings) -> Iterator[Table]:
    """Compile what `tables` will need, untimed."""
    _warm(STOCK, settings)
    yield from ()


def _warm(contender: Contender, settings: Settings) -> None:
    prediction = Prediction(contender, settings.ways[0], settings)
    prediction.patch()
    prediction.case()  # in inference mode to the end, which may be another graph


class Prediction:
    """A network with nnU-Net's predictor around it, all on the device."""

    def __init__(self, contender: Contender, way: str, settings: Settings):
        self.settings, before = settings, allocated_bytes(settings)
        torch.backends.cudnn.benchmark = True  # as nnU-Net's predictor
        os.environ["nnUNet_compile"] = "false"  # compiled here or not at all
        plan = Plan(settings.patch, settings.features)
        network, manager = network_of(contender.kind, plan).to(settings.device).eval(), PlansManager(plans_of(plan))
        network.engine = contender.engine  # type: ignore[assignment]
        self.network = torch.compile(network) if way == "compiled" else network
        self.predictor = nnUNetPredictor(
            perform_everything_on_device=settings.on_gpu, allow_tqdm=False, device=torch.device(settings.device)
        )
        self.predictor.manual_initialization(
            self.network,
            manager,
            manager.get_configuration(CONFIGURATION),
            None,
            DATASET,
            TRAINERS[contender.kind].__name__,
            (0, 1, 2),
        )
        torch.manual_seed(2)
        self.image = torch.randn(CHANNELS, *settings.case)
        self.corner = torch.randn(1, CHANNELS, *settings.patch, device=settings.device)
        self.own_bytes = allocated_bytes(settings) - before

    def patch(self) -> Tensor:
        """Predict one patch, (1, CLASSES, *patch)."""
        with torch.inference_mode(), torch.autocast(self.settings.device, enabled=self.settings.on_gpu):
            logits: Tensor = self.network(self.corner)
        return logits

    def case(self) -> Tensor:
        """Predict all patches of the image, (CLASSES, *case), mirrored along all axes."""
        logits: Tensor = self.predictor.predict_sliding_window_return_logits(self.image)
        return logits


def least_bytes(patch: Sequence[int], features: Sequence[int]) -> int:
    """Return the bytes that a GSP network has to move in half precision to predict one patch.

    Each map is written once by the convolution that makes it, and read once by what follows: everything between two
    convolutions can happen on the way. A stage's last map is read again as a skip connection, and the decoder's maps
    are interpolated as they are read.
    """
    voxels: list[int] = [int(torch.tensor(patch).prod()) // 8**stage for stage in range(len(features))]
    maps = [width * count for width, count in zip(features, voxels, strict=True)]
    encoder = 2 * sum(maps)
    # in front of its two convolutions, one at the resolution below
    decoder = 2 * sum(maps[:-1]) + sum(width * count for width, count in zip(features, voxels[1:], strict=False))
    image_and_logits = (CHANNELS + CLASSES) * voxels[0]
    return HALF_BYTES * (2 * (encoder + decoder) + sum(maps[:-1]) + image_and_logits)


def _patch_row(way: str, contenders: Mapping[Contender, Prediction], settings: Settings) -> Row:
    source, target = (
        torch.empty(
            least_bytes(settings.patch, settings.features) // 2, dtype=torch.uint8, device=settings.device
        ).random_()
        for _ in range(2)
    )
    timings = interleaved(
        {**{str(name): each.patch for name, each in contenders.items()}, COPY: lambda: target.copy_(source)},
        settings.rounds(20),
        settings.device,
    )
    return {
        **_times(f"a patch, {way}", timings, settings),
        **{
            f"{each} / copying its fewest bytes": 1 / ratios(timings, COPY)[str(each)]
            for each in contenders
            if each.kind == "GSP"
        },
        "that copy, ms": timings[COPY],
    }


def _case_row(
    way: str,
    contenders: Mapping[Contender, Prediction],
    expected: dict[str, Tensor],
    wrong: list[str],
    settings: Settings,
) -> Row:
    peaks, errors = {}, {}
    for name, each in contenders.items():
        logits: list[Tensor] = []
        peaks[name] = peak_gibibytes(
            lambda run=each.case, found=logits: found.append(run()),  # type: ignore[misc]
            allocated_bytes(settings) - each.own_bytes,
            settings,
        )
        predicted = logits.pop().float().cpu()
        first = expected.setdefault(name.kind, predicted)
        errors[name] = relative_error(predicted, first, torch.linalg.vector_norm)
        if not errors[name] <= TOLERANCE:  # which NaN is not, either
            wrong.append(f"{name}, {way}, is off by {errors[name]}")
    timings = interleaved(
        {str(name): each.case for name, each in contenders.items()}, settings.rounds(3), settings.device
    )
    return {
        **_times(f"a case, {way}", timings, settings),
        **{f"{name}'s peak, GiB": peak for name, peak in peaks.items()},
        **{f"{name}'s error": f"{error:.1e}" for name, error in errors.items()},
    }


def _times(name: str, timings: Mapping[str, Timing], settings: Settings) -> Row:
    by_stock = ratios(timings, "stock")
    return {
        "": name,
        **{f"{each} / stock": 1 / by_stock[str(each)] for each in settings.contenders if each.kind == "GSP"},
        **{f"{each}, ms": timings[str(each)] for each in settings.contenders},
    }


def _table(rows: Sequence[Row], settings: Settings) -> Table:
    columns = dict.fromkeys(column for row in rows for column in row)
    return Table(
        "Prediction",
        [{column: row.get(column) for column in columns} for row in rows],
        f"A patch: {CHANNELS}×{times(settings.patch)}, batch 1, {settings.rounds(20)} rounds; the fewest "
        f"bytes are {least_bytes(settings.patch, settings.features) / 1e9:.2f} GB. A case: "
        f"{times(settings.case)}, nnU-Net's sliding window with half a patch a step, mirrored along all axes, "
        f"from image to logits, {settings.rounds(3)} rounds. {settings.precision}, features as in training, "
        f"random weights. nnU-Net predicts eagerly unless `nnUNet_compile` is set. Error: of a case's logits "
        f"against eager GSP or stock, by the norm.",
    )
