"""The connection form for Airflow 2.11 to 3.1, built from the declaration that newer releases read themselves."""

from __future__ import annotations

from typing import Any

from airflow_provider_lago.get_provider_info import get_provider_info


def connection_type() -> dict[str, Any]:
    """Return the declaration of the connection type ``lago``."""
    declared: dict[str, Any] = get_provider_info()["connection-types"][0]
    return declared


def field_behaviour() -> dict[str, Any]:
    """Return which standard fields the form hides, renames and explains."""
    behaviour = connection_type()["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in behaviour.items()}


def form_widgets() -> dict[str, Any]:
    """Return one form field for each key of the extra. Imports the web form libraries, which only old Airflows have."""
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget  # type: ignore[import-not-found,unused-ignore]
    from flask_babel import lazy_gettext  # type: ignore[import-not-found,unused-ignore]
    from wtforms import BooleanField, StringField  # type: ignore[import-untyped,unused-ignore]

    widgets: dict[str, Any] = {}
    for name, declared in connection_type()["conn-fields"].items():
        schema = declared["schema"]
        label, description = lazy_gettext(declared["label"]), declared["description"]
        if "boolean" in schema["type"]:
            widgets[name] = BooleanField(label, description=description, default=schema["default"])
        else:
            # Text for numbers too, as these forms' number fields take no fractions. Text for the proxy, as a password
            # field comes back empty and would wipe it; Airflow shows a placeholder instead of its value.
            widgets[name] = StringField(label, description=description, widget=BS3TextFieldWidget())
    return widgets
