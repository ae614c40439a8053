"""Networks: their configurations, the table of named ones, and the builders."""
