"""An embedded server that behaves like Lago, for demos and tests. Needs the extra ``[sandbox]``."""
