"""Fixtures of the main job."""

from tests.main_job import class_folders, digits, flat_folder, run_job, teacher_checkpoint

__all__ = ["class_folders", "digits", "flat_folder", "run_job", "teacher_checkpoint"]
