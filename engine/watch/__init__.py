"""A run on a terminal while it goes: book, fund, liquidations, the queue behind them (WATCH-001).

`frame` reads what is shown from an exchange, `screen` draws it with rich, `live` keeps the pace.  Nothing of it takes
part in the run.
"""

from engine.watch.live import Watch as Watch
from engine.watch.live import open_console as open_console
