"""`SimpleTrainer` builds the data and the model, and resumes runs. `TrainerX` trains on batches.

Prompt trainers and third-party trainers derive from `TrainerX`. They override `build_model` and `forward_backward`,
and sometimes `test`, `load_model` or the hooks of `TrainerBase`. A training run calls `train()`. A test run calls
`test()`.
"""

import datetime
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm
from yacs.config import CfgNode

from dassl import distributed
from dassl.data import DataManager
from dassl.engine.base import ParsedBatch
from dassl.engine.finite import check_parameters
from dassl.engine.loggers import find_loggers
from dassl.engine.metrics_log import MetricsLog
from dassl.engine.results import write_result
from dassl.engine.resume import restore_best, tidy
from dassl.engine.run_folder import check_resume
from dassl.engine.validation import ValidatingTrainer
from dassl.evaluation import build_evaluator
from dassl.modeling import SimpleNet
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import count_num_param, load_pretrained_weights
from dassl.utils.checkpoint_files import remove_old_checkpoints
from dassl.utils.devices import choose_device
from dassl.utils.files import remove_unfinished
from dassl.utils.logger import print_step
from dassl.utils.meters import AverageMeter, MetricMeter
from dassl.utils.torchtools import load_checkpoint


def __getattr__(name: str) -> type:
    """Import `SummaryWriter` or `TrainerXU` when a third-party trainer first gets it from this module.

    `SummaryWriter` is slow to import. The module of `TrainerXU` imports this module, so this module can't import
    `TrainerXU` at once.
    """
    if name == "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter
    if name == "TrainerXU":
        from dassl.engine.trainer_xu import TrainerXU

        return TrainerXU
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class SimpleTrainer(ValidatingTrainer):
    """A trainer that builds the data, the model and the evaluator from the config, then trains or tests."""

    optim: torch.optim.Optimizer
    sched: LRScheduler
    train_loader_x: DataLoader | None
    train_loader_u: DataLoader | None

    #: True: several processes can train and test together. Each process then gets its share of a batch's images.
    shares_work = False

    # These are class attributes because some third-party trainers don't call `__init__`.
    time_start = 0.0  # time at which training started, in seconds since 1970; 0 in a test run

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.check_cfg(cfg)
        if not cfg.TEST.EVAL_ONLY:
            find_loggers(cfg)  # raises InputError if one is missing
        self.device = choose_device(cfg.USE_CUDA)
        distributed.check_run(self.device.type, cfg.SEED, "" if self.shares_work else cfg.TRAINER.NAME)
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        with distributed.main_first():  # building a data set may write files
            self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname, dataset=self.dm.dataset)

    def check_cfg(self, cfg: CfgNode) -> None:
        """Raise InputError for a config that the trainer can't use. Subclasses override this hook.

        The constructor calls this hook before it builds anything.
        """

    def build_data_loader(self) -> None:
        """Make the data manager, and copy its loaders to this trainer's attributes."""
        dm = DataManager(self.cfg)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self) -> None:
        """Build the model, its optimiser and its schedule, and register them. Most subclasses override this method."""
        cfg = self.cfg
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    # ---- training: the loop is TrainerBase.train ----

    def train(self) -> None:  # type: ignore[override]  # Dassl's signature
        """Train from epoch `start_epoch` (or from the last checkpoint) to the end. Then test and write the result."""
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self) -> None:
        """Resume if RESUME (or OUTPUT_DIR, if RESUME is "") contains checkpoints. Then open the logs."""
        cfg, names = self.cfg, self.get_model_names()
        directory = Path(cfg.RESUME or cfg.OUTPUT_DIR)
        check_resume(cfg)
        self.check_validation()
        self.start_epoch = self.resume_model_if_exist(str(directory))
        check_parameters(self._models, "before the training")
        targets = [Path(self.output_dir) / name for name in names]
        if self.resumed and self._selects_best:
            folders, newest = [directory / name for name in names], self.resumed
            self.best_result = distributed.on_main(lambda: restore_best(folders, newest, targets))
        self.val_results = list(self.resumed[0][1].get("val_results", ())) if self.resumed else []
        self.best_result = max([self.best_result, *self.val_results])
        if self.is_out_of_patience:  # the training had stopped early
            self.max_epoch = self.start_epoch
        self.resumed = []  # the checkpoints' content isn't needed any more
        saved_here = self.start_epoch if directory == Path(cfg.OUTPUT_DIR) else 0  # last epoch saved in OUTPUT_DIR
        if distributed.is_main():
            tidy(targets, saved_here, cfg.TRAIN.CHECKPOINT_FREQ)
            remove_unfinished(Path(self.output_dir))
            self.open_loggers(self.output_dir)
        log_folder, n_validations = self.output_dir if distributed.is_main() else None, len(self.val_results)
        self.metrics = MetricsLog(log_folder, saved_here, n_validations if saved_here else 0)
        self.time_start = time.time()

    def seed_epoch(self) -> None:
        """Seed the random generators. Pass the epoch to the data sets, because augmentation depends on the epoch."""
        super().seed_epoch()
        for loader in (self.train_loader_x, self.train_loader_u):
            if loader is not None:
                loader.dataset.epoch = self.epoch  # type: ignore[attr-defined]  # read by DatasetWrapper

    def after_epoch(self) -> None:
        """Save a checkpoint. If a validation is due, validate first.

        If FINAL_MODEL is best_val and the validation gives the best result so far, save the best model, too.
        """
        check_parameters(self._models, f"after epoch {self.epoch + 1}")
        result = self.validate()
        if result is not None and result > self.best_result:
            self.best_result = result
            if self._selects_best:
                self.save_model(self.epoch, self.output_dir, is_best=True, val_result=result)
        self.stop_if_out_of_patience()
        self.metrics.sync()
        self.save_model(self.epoch, self.output_dir, val_result=result)  # every epoch, so that a killed run can resume
        for name in self.get_model_names() if distributed.is_main() else ():
            remove_old_checkpoints(Path(self.output_dir) / name, self.epoch + 1, self.cfg.TRAIN.CHECKPOINT_FREQ)

    def after_train(self) -> None:
        """Test the last or the best model, write `result.json`, and close the logs."""
        print("Finish training")
        print("Finished training")  # log parsers for other versions of Dassl wait for this line
        self.deploy()
        if not self.cfg.TEST.NO_TEST:
            self.test()
            distributed.on_main(lambda: write_result(self))
        print(f"Elapsed: {datetime.timedelta(seconds=round(time.time() - self.time_start))}")
        self.close_writer()

    def deploy(self) -> None:
        """Turn the trained model into the one to test, which is the last or the best. A subclass may save it here."""
        if self._selects_best and self.get_model_names():
            print("Deploy the model with the best val performance")
            self.load_model(self.output_dir)
            name = self.get_model_names()[0]
            best = distributed.on_main(lambda: load_checkpoint(self.find_checkpoint(self.output_dir, name)))
            self.loaded_epoch = best["epoch"]  # a third-party load_model may not set loaded_epoch
        elif not self.cfg.TEST.NO_TEST:
            print("Deploy the last-epoch model")

    # ---- batches ----

    def run_batches(self, batches: Iterable[tuple], num_batches: int, whole_epoch: int = 0) -> None:
        """Call `forward_backward(*batch)` for each batch, and log the values that it returns.

        Sets `batch_idx` and `num_batches`, which trainers compare to detect the last batch of an epoch.

        Args:
            whole_epoch: number of batches of the other epochs, if this epoch is shorter; 0: `num_batches`.
        """
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        self.num_batches, whole_epoch = num_batches, whole_epoch or num_batches
        self.metrics.warn_of_missing_lines(whole_epoch)
        end = time.time()
        # disable=None: the bar appears only in a terminal
        with tqdm(total=num_batches, desc=f"epoch {self.epoch + 1}/{self.max_epoch}", leave=False, disable=None) as bar:
            for self.batch_idx, batch in enumerate(batches):
                data_time.update(time.time() - end)
                losses.update(self.forward_backward(*batch))
                batch_time.update(time.time() - end)
                self._report(losses, batch_time, data_time, self.epoch * whole_epoch + self.batch_idx)
                if not bar.disable:
                    shown = {name: losses.meters[name].avg for name in ("loss", "acc") if name in losses.meters}
                    bar.set_postfix(shown, refresh=False)
                    bar.update()
                end = time.time()

    def _report(self, losses: MetricMeter, batch_time: AverageMeter, data_time: AverageMeter, n_iter: int) -> None:
        """Write a batch's values to metrics.jsonl and the loggers. Also print the values every PRINT_FREQ batches.

        `n_iter` is the number of batches before this one, in all epochs.
        """
        step, freq, lr = self.batch_idx + 1, self.cfg.TRAIN.PRINT_FREQ, self.get_current_lr()
        if step % freq == 0 or self.num_batches < freq:
            left = self.num_batches - step + (self.max_epoch - self.epoch - 1) * self.num_batches
            eta = datetime.timedelta(seconds=int(batch_time.avg * left))
            print_step(
                f"epoch [{self.epoch + 1}/{self.max_epoch}] batch [{step}/{self.num_batches}] "
                f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) data {data_time.val:.3f} ({data_time.avg:.3f}) "
                f"{losses} lr {lr:.4e} eta {eta}"
            )
        averages = {f"train/{name}": meter.avg for name, meter in losses.meters.items()}
        self.write_scalars({**averages, "train/lr": lr}, n_iter)
        values = {name: meter.val for name, meter in losses.meters.items()}
        self.metrics.write(epoch=self.epoch + 1, batch=step, lr=lr, **values)


class TrainerX(SimpleTrainer):
    """A trainer that uses only labelled batches. A subclass defines `forward_backward(batch)`."""

    def run_epoch(self) -> None:
        loader = self._present(self.train_loader_x, "training")
        self.run_batches(((batch,) for batch in loader), len(loader))

    def parse_batch_train(self, batch: dict) -> ParsedBatch:
        """Return the images, labels and domains of a batch, on the device."""
        return tuple(batch[key].to(self.device) for key in ("img", "label", "domain"))
