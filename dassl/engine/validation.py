"""`ValidatingTrainer` validates the model during the training, and can stop early. `SimpleTrainer` derives from it.

TRAIN.VAL_FREQ and TEST.FINAL_MODEL set when the model is validated. TRAIN.PATIENCE sets when the training stops. Early
stopping lowers `max_epoch`, so the rest of the code needn't know why a training has ended.
"""

import math

from dassl.engine.metrics_log import MetricsLog
from dassl.engine.testing import ModelTester
from dassl.utils.errors import InputError
from dassl.utils.tools import restored_generators


class ValidatingTrainer(ModelTester):
    """A trainer that can validate its model after an epoch."""

    metrics: MetricsLog
    best_result = -math.inf  # best validation result so far
    val_results: list[float]  # the results of all validations so far; checkpoints contain them

    @property
    def _selects_best(self) -> bool:
        return self.cfg.TEST.FINAL_MODEL == "best_val" and not self.cfg.TEST.NO_TEST

    def check_validation(self) -> None:
        """Raise InputError if the config needs validations, but the data set has no validation images."""
        freq, has_epochs = self.cfg.TRAIN.VAL_FREQ, bool(self.get_model_names() and self.max_epoch)
        if has_epochs and self.val_loader is None and (freq or self._selects_best):
            key = f"TRAIN.VAL_FREQ {freq}" if freq else "TEST.FINAL_MODEL best_val"
            raise InputError(f"{key} needs validation images, but {self.cfg.DATASET.NAME} has none")

    def validate(self) -> float | None:
        """Validate the model if a validation is due after this epoch. Return the result, or None without a validation.

        The result is printed, and written to metrics.jsonl and to the loggers. The random generators keep their state.
        """
        done, freq = self.epoch + 1, self.cfg.TRAIN.VAL_FREQ or int(self._selects_best)
        if not freq or (done % freq and done < self.max_epoch):
            return None
        self.tested_scores = {}
        with restored_generators():
            result = self.test(split="val")
        scores = self.tested_scores or {"result": result}  # a third party's `test` doesn't set `tested_scores`
        self.metrics.write(epoch=done, split="val", **scores)
        self.val_results.append(result)
        best = max(self.best_result, result)
        print(f"Validation after epoch {done}/{self.max_epoch}: {result:.2f} (best: {best:.2f})")
        return result

    def stop_if_out_of_patience(self) -> None:
        """End the training after this epoch if TRAIN.PATIENCE validations in a row didn't improve the result."""
        if self.epoch + 1 < self.max_epoch and self.is_out_of_patience:
            reason = f"TRAIN.PATIENCE {self.cfg.TRAIN.PATIENCE} is reached without a better validation result"
            print(f"Stop after epoch {self.epoch + 1}/{self.max_epoch}: {reason}")
            self.max_epoch = self.epoch + 1
            self.stop_early()

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the last TRAIN.PATIENCE validations didn't improve the result. False if PATIENCE is 0."""
        patience, results = self.cfg.TRAIN.PATIENCE, self.val_results
        return bool(patience and results) and len(results) - 1 - results.index(max(results)) >= patience
