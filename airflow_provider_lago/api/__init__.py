"""What we know of Lago, pure: payload rules, error bodies, retry safety, rate headers. No I/O, no Airflow."""
