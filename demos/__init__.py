"""What a person sees: click commands, pictures and the report."""
