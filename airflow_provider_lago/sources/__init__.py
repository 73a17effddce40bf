"""Where records come from: XCom values and files. Knows neither Lago nor Airflow."""
