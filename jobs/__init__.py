"""What runs inside the containers: `python -m jobs train | eval | infer`."""

__version__ = "0.1.0"
