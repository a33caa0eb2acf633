"""The state tuple as one pointer, for the time of a batch.

Passing a tuple of arrays through helpers copies every array header at every call; a structref passes one pointer.  This
file is the only one that knows numba's experimental structref.  Without the compiler a plain object stands in.
"""

import hashlib

from numba.core import types
from numba.experimental import structref

from engine._jit import JIT_DISABLED
from engine.layout import State

if JIT_DISABLED:

    class StateBox:
        """The same attributes as `State`, assignable."""

        def __init__(self, *arrays):
            for name, array in zip(State._fields, arrays, strict=True):
                setattr(self, name, array)

else:

    @structref.register
    class StateBoxType(types.StructRef):
        """Type of the boxed state."""

        def __init__(self, fields):
            """Name the type by a digest: the full list of records would be part of every compiled symbol."""
            super().__init__(fields)
            self.name = "StateBox_" + hashlib.blake2b(str(self._fields).encode(), digest_size=8).hexdigest()

        def preprocess_fields(self, fields):
            """Forget literal types, so that there is one specialisation only."""
            return tuple((name, types.unliteral(typ)) for name, typ in fields)

    class StateBox(structref.StructRefProxy):
        """The same attributes as `State`, assignable inside kernels."""

        def __new__(cls, *arrays):
            """Box `arrays`, in the order of `State`."""
            return structref.StructRefProxy.__new__(cls, *arrays)

    structref.define_proxy(StateBox, StateBoxType, list(State._fields))
