"""The words both sides share: records, states, specs, events, errors, settings."""
