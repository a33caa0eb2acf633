"""The policy lab: what an allocation of losses did to winners, and what another would have done on the same wave.

`metrics` are the papers' measures as functions of plain numbers, `waves` finds the waves of a run in its events alone,
`policies` divides a wave's budget anew, `oct10` reads the papers' own data.

Source: LAB-001..LAB-013.
"""
