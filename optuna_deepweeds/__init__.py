"""An Optuna study manager that searches neural networks for the DeepWeeds images."""

__version__ = "0.1.0"
