"""Row -> record: the JSON text of a line is read where somebody looks into it, and not before."""

from __future__ import annotations

import msgspec

from airflow_provider_lago.api import exact_json
from airflow_provider_lago.api.records import InvalidRecord


def decode(data: object) -> object:
    """
    Return the record of a row.

    :raises InvalidRecord: if it is a text that is not JSON.
    """
    if type(data) is not bytes:
        return data
    try:
        return exact_json.decode(data)
    except UnicodeDecodeError as error:
        raise InvalidRecord("not UTF-8", f"byte {error.start + 1} of the line: {error.reason}") from None
    except RecursionError:
        raise InvalidRecord("not JSON", "nested too deep") from None
    except ArithmeticError:
        raise InvalidRecord("not JSON", "a number is too long to be one") from None
    except msgspec.DecodeError as error:
        raise InvalidRecord("not JSON", str(error)) from None
