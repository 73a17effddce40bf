"""Shape, check, batch, send, settle, record: the road of a record from its source to Lago. No Airflow."""
