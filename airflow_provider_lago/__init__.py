"""Apache Airflow provider for Lago, the usage-based billing platform."""

__version__ = "0.1.0"
