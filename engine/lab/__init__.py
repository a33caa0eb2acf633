"""The policy lab: what an allocation of losses did to winners, and what another would have done on the same wave.

`metrics` are the papers' measures as functions of plain numbers, `waves` finds the waves of a run in its events alone,
`policies` divides a wave's budget anew, `oct10` reads the papers' own data.  Two things are played instead of read:
`attacks`, pairs of runs that differ by an attack, and `crash`, a day beside what was published of it.

Source: LAB-001..LAB-013, ATK-001..ATK-003, OCT-001..OCT-003.
"""
