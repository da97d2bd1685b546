"""The training methods, a file each; `METHODS` knows all, those of others that join included."""

from engine.training.method import METHODS

METHODS.fill(__name__, ("sft", "rjs", "dpo", "scorer", "ppo", "grpo", "rloo", "reward_model"))

__all__ = ["METHODS"]
