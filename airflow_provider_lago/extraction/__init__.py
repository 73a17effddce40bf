"""A list of Lago, page by page into JSON lines that a retry goes on with. No Airflow."""
