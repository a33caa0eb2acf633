"""Many runs of one scenario: how likely, how bad, how large a fund, how small a shock (STRESS-001)."""
