"""Foreign models on their way in: brought, checked by allow-list, converted where needed, tried, described."""
