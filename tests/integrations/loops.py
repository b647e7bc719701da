"""The loops of the two frameworks, quiet and on the CPU; whoever uses one imports it."""

from typing import Any


def lightning_trainer(folder: Any, epochs: int = 1, **options: Any) -> Any:
    """Lightning's, without log, bar, summary and checkpoints unless asked for."""
    import lightning

    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet = {"max_epochs": epochs, "accelerator": "cpu", "default_root_dir": folder, **dict.fromkeys(off, False)}
    return lightning.Trainer(**{**quiet, **options})


def arguments(folder: Any, **changes: Any) -> Any:
    """transformers' options: every update in the log, no clipping unless asked for."""
    from transformers import TrainingArguments

    quiet = {"logging_steps": 1, "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    return TrainingArguments(str(folder), **{**quiet, "max_grad_norm": 0, **changes})
