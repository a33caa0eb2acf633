"""The state as one pointer, for the time of a batch.

A helper that takes arrays copies their headers at every call and counts references at every access; both cost more than
the work, and so does taking a tuple of them apart at every call from Python.  So the shell writes the address and the
length of every array into one block of words, kernels take that, and helpers get `st`, the block's address.
`st.orders` reads two words, `st.orders[slot]` is a record in place; nothing is counted, since the caller's `State`
keeps the arrays alive.  Only the event buffer may grow inside a batch: a keeper owns it.

This file is the only one that knows numba's extension API.  Without the compiler a plain object stands in.
"""

import operator

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_builtin, lower_getattr_generic
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.experimental import structref
from numba.extending import intrinsic, models, register_model

from engine._jit import JIT_DISABLED, helper, inlined
from engine.layout import (
    BOX_WORDS,
    COMMAND,
    EVENT,
    INSTRUMENT,
    KNOWN_LEVEL,
    LINE_BYTES,
    RECORD,
    REPORT,
    STATE_DTYPES,
    State,
)

FIELDS = State._fields
# Of everything a helper may index: the state, and what is borrowed beside it.
DTYPES = {
    **STATE_DTYPES,
    "events": EVENT,
    "reports": REPORT,
    "rows": RECORD,
    "commands": COMMAND,
    "instruments": INSTRUMENT,
    "known_levels": KNOWN_LEVEL,
}
EVENTS_WORD = 2 * len(FIELDS)  # where in the box the events' address stands, then their length, then their keeper
KEEPER_WORD = EVENTS_WORD + 2
# What an order's event says beside its number and time.
ORDER_PARTS = ("kind", "code", "market", "side", "flags", "account")
ORDER_TOLD = ("price_tick", "qty_lot", "order_id")


@inlined
def longer_than(length):
    """Return the length of the buffer after one of `length`: one command may have an event for every account."""
    return length * 8 if length < (1 << 18) else length * 2


if JIT_DISABLED:

    class Keeper:
        """Owner of the event buffer during a batch."""

        def __init__(self, events):
            self.events = events

    class PlainBox:
        """The same attributes as `State`, and `events`, which are the keeper's."""

        def __init__(self, state):
            self.keeper = None
            for name in FIELDS:
                setattr(self, name, getattr(state, name))

        @property
        def events(self):
            """Return the event buffer."""
            return self.keeper.events

    def pack_state(state):
        """Return what kernels take for a state: itself."""
        return state

    def open_box(box):
        """Return the boxed state."""
        return PlainBox(box)

    def lend_events(st, keeper, events):
        """Let a boxed state write to a keeper's events."""
        st.keeper = keeper

    def borrow(array):
        """Return an array as helpers see it."""
        return array

    def prefetch(table, index):
        """Do nothing: only a processor has something to fetch."""

    def fetch_record(record):
        """Do nothing: only a processor has something to fetch."""

    def fetch_row(rows, index):
        """Do nothing: only a processor has something to fetch."""

    def put_record(table, index, record):
        """Write a record to an element."""
        table[index] = record

    stream_out = put_record

    def put_order_event(table, index, is_streamed, seq, ts_ns, parts, told):
        """Write an order's event to an element: `parts` and `told` are the fields of ORDER_PARTS and ORDER_TOLD."""
        event = np.zeros(1, EVENT)
        event["seq"], event["ts_ns"] = seq, ts_ns
        for names, values in ((ORDER_PARTS, parts), (ORDER_TOLD, told)):
            for name, value in zip(names, values, strict=True):
                event[name] = value
        table[index] = event[0]

    def clear(record):
        """Set all fields of a record to 0."""
        for name in record.dtype.names:
            record[name] = 0

    def find_address(batch):
        """Return what `call_batch` takes for `run_batch`: itself."""
        return batch

    def call_batch(address, box, events, commands):
        """Call `run_batch`."""
        return address(box, events, commands)

    def grow_events(st):
        """Replace the event buffer by a longer one."""
        old = st.keeper.events
        st.keeper.events = np.empty(longer_than(len(old)), EVENT)
        st.keeper.events[: len(old)] = old

else:
    WORD = ir.IntType(64)
    VECTOR = ir.VectorType(WORD, 4)

    class TableType(types.Type):
        """An array of the state as helpers see it: an address and a length, not owned."""

        def __init__(self, name):
            self.dtype = numba.from_dtype(DTYPES[name])
            short = name if isinstance(self.dtype, types.Record) else str(self.dtype)
            super().__init__(name=f"Table[{short}]")

    @register_model(TableType)
    class TableModel(models.StructModel):
        """Two words."""

        def __init__(self, dmm, fe_type):
            super().__init__(dmm, fe_type, [("data", types.voidptr), ("length", types.int64)])

    class StateType(types.Type):
        """The boxed state: the address of its block."""

        def __init__(self):
            super().__init__(name="BoxedState")

    state_type = StateType()
    # the heaps share a record type and must share their helpers: one table type for all
    TABLES = {name: TableType("triggers" if name in ("queue", "resting") else name) for name in DTYPES}

    @register_model(StateType)
    class StateModel(models.PrimitiveModel):
        """One word."""

        def __init__(self, dmm, fe_type):
            super().__init__(dmm, fe_type, WORD.as_pointer())

    @infer_getattr
    class StateAttributes(AttributeTemplate):
        """`st.orders` and its like."""

        key = StateType

        def generic_resolve(self, typ, attr):
            """Return the table type of a field."""
            return TABLES.get(attr)

    @lower_getattr_generic(StateType)
    def load_table(context, builder, typ, value, attr):
        """Read a table's two words from the block; all but the events' never change during a batch."""
        place = EVENTS_WORD if attr == "events" else 2 * FIELDS.index(attr)
        table = cgutils.create_struct_proxy(TABLES[attr])(context, builder)
        words = []
        for offset in (place, place + 1):
            word = builder.load(builder.gep(value, [ir.Constant(WORD, offset)]))
            if attr != "events":
                word.set_metadata("invariant.load", builder.module.add_metadata([]))
            words.append(word)
        table.data = builder.inttoptr(words[0], cgutils.voidptr_t)
        table.length = words[1]
        return table._getvalue()

    @infer_global(operator.getitem)
    class TableGet(AbstractTemplate):
        """`table[index]`: a record in place, or a number."""

        def generic(self, args, kws):
            """Accept a table and an integer."""
            if isinstance(args[0], TableType) and isinstance(args[1], types.Integer):
                return signature(args[0].dtype, args[0], types.int64)
            return None

    @infer_global(operator.setitem)
    class TableSet(AbstractTemplate):
        """`table[index] = number`."""

        def generic(self, args, kws):
            """Accept a table of numbers, an integer and a number."""
            if isinstance(args[0], TableType) and isinstance(args[1], types.Integer):
                return signature(types.none, args[0], types.int64, args[0].dtype)
            return None

    @infer_global(len)
    class TableLength(AbstractTemplate):
        """`len(table)`."""

        def generic(self, args, kws):
            """Accept a table."""
            return signature(types.int64, args[0]) if isinstance(args[0], TableType) else None

    def point_at(context, builder, typ, value, index):
        """Return the address of an element; with NUMBA_BOUNDSCHECK the index is checked, negative ones too."""
        table = cgutils.create_struct_proxy(typ)(context, builder, value=value)
        if context.enable_boundscheck:
            outside = builder.icmp_unsigned(">=", index, table.length)
            with builder.if_then(outside, likely=False):
                message = "index out of bounds in " + typ.name
                context.call_conv.return_user_exc(builder, IndexError, (message,))
        size = ir.Constant(WORD, SIZES[typ.name])
        return builder.gep(table.data, [builder.mul(index, size)])

    SIZES = {TABLES[name].name: dtype.itemsize for name, dtype in DTYPES.items()}

    @lower_builtin(operator.getitem, TableType, types.int64)
    def get_element(context, builder, sig, args):
        """Lower `table[index]`."""
        typ = sig.args[0]
        address = point_at(context, builder, typ, args[0], args[1])
        kind = context.get_value_type(typ.dtype)
        if isinstance(typ.dtype, types.Record):
            return builder.bitcast(address, kind)
        return builder.load(builder.bitcast(address, kind.as_pointer()))

    @lower_builtin(operator.setitem, TableType, types.int64, types.Any)
    def set_element(context, builder, sig, args):
        """Lower `table[index] = number`."""
        typ = sig.args[0]
        address = point_at(context, builder, typ, args[0], args[1])
        builder.store(args[2], builder.bitcast(address, context.get_value_type(typ.dtype).as_pointer()))
        return context.get_dummy_value()

    @lower_builtin(len, TableType)
    def get_length(context, builder, sig, args):
        """Lower `len(table)`."""
        return cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0]).length

    LENDERS = {TABLES[name].dtype: TABLES[name] for name in DTYPES}

    @intrinsic
    def borrow(typingctx, array):
        """Return an array (1-D, C-contiguous) as helpers see it: the array itself would be counted at every call."""

        def codegen(context, builder, sig, args):
            array = context.make_array(sig.args[0])(context, builder, value=args[0])
            table = cgutils.create_struct_proxy(sig.return_type)(context, builder)
            table.data = builder.bitcast(array.data, cgutils.voidptr_t)
            table.length = array.nitems
            return table._getvalue()

        return LENDERS[array.dtype](array), codegen

    @structref.register
    class KeeperType(types.StructRef):
        """Owner of the event buffer during a batch."""

    class Keeper(structref.StructRefProxy):
        """Owner of the event buffer during a batch."""

    structref.define_proxy(Keeper, KeeperType, ["events"])
    keeper_type = KeeperType([("events", numba.from_dtype(EVENT)[::1])])

    def pack_state(state):
        """Return what kernels take for a state: BOX_WORDS int64, good while none of its arrays is replaced."""
        box = np.zeros(BOX_WORDS, np.int64)
        for place, name in enumerate(FIELDS):
            array = getattr(state, name)
            if array.dtype != STATE_DTYPES[name] or not array.flags.carray:
                raise TypeError(f"{name}: expected a C-contiguous, writeable array of {STATE_DTYPES[name]}")
            box[2 * place : 2 * place + 2] = array.ctypes.data, len(array)
        return box

    @intrinsic
    def open_box(typingctx, box):
        """Return the boxed state: the address of `box` (BOX_WORDS int64), which must outlive it."""

        def codegen(context, builder, sig, args):
            return context.make_array(sig.args[0])(context, builder, value=args[0]).data

        return state_type(box), codegen

    @intrinsic
    def clear(typingctx, record):
        """Set all fields of a record to 0."""

        def codegen(context, builder, sig, args):
            address = builder.bitcast(args[0], cgutils.voidptr_t)
            cgutils.memset(builder, address, ir.Constant(WORD, sig.args[0].size), 0)
            return context.get_dummy_value()

        return types.none(record), codegen

    @intrinsic
    def fetch_record(typingctx, record):
        """Have the processor fetch a record that will be read soon."""

        def codegen(context, builder, sig, args):
            fetch_line(builder, builder.bitcast(args[0], cgutils.voidptr_t), 0)
            return context.get_dummy_value()

        return types.none(record), codegen

    @intrinsic
    def fetch_row(typingctx, rows, index):
        """Have the processor fetch a row of an array of records, if there is one: an address is asked for, not read."""

        def codegen(context, builder, sig, args):
            array = context.make_array(sig.args[0])(context, builder, value=args[0])
            size = ir.Constant(WORD, sig.args[0].dtype.size)
            address = builder.add(builder.ptrtoint(array.data, WORD), builder.mul(args[1], size))
            fetch_line(builder, builder.inttoptr(address, cgutils.voidptr_t), 0)
            return context.get_dummy_value()

        return types.none(rows, types.int64), codegen

    @intrinsic
    def put_record(typingctx, table, index, record):
        """Write a record to an element."""

        def codegen(context, builder, sig, args):
            address = point_at(context, builder, sig.args[0], args[0], args[1])
            source = builder.bitcast(args[2], cgutils.voidptr_t)
            size = ir.Constant(WORD, SIZES[sig.args[0].name])
            cgutils.raw_memcpy(builder, address, source, size, 1, align=8)
            return context.get_dummy_value()

        return types.none(table, types.int64, record), codegen

    @intrinsic
    def stream_out(typingctx, table, index, record):
        """Write a record to an element, past the caches where the table begins on a cache line."""

        def codegen(context, builder, sig, args):
            size = SIZES[sig.args[0].name]
            address = point_at(context, builder, sig.args[0], args[0], args[1])
            with builder.if_else(is_on_line(builder, address), likely=True) as (then, otherwise):
                with then:
                    source = builder.bitcast(args[2], VECTOR.as_pointer())
                    steps = [builder.gep(source, [ir.Constant(WORD, place)]) for place in range(size // 32)]
                    vectors = [builder.load(step, align=32) for step in steps]
                    put_vectors(builder, address, vectors, past_caches=True)
                with otherwise:
                    source = builder.bitcast(args[2], cgutils.voidptr_t)
                    cgutils.raw_memcpy(builder, address, source, ir.Constant(WORD, size), 1, align=8)
            return context.get_dummy_value()

        return types.none(table, types.int64, record), codegen

    @intrinsic
    def put_order_event(typingctx, table, index, is_streamed, seq, ts_ns, parts, told):
        """Write an order's event to an element: `parts` and `told` are the fields of ORDER_PARTS and ORDER_TOLD.

        Composed in registers, past the caches if `is_streamed` and the element is aligned.
        """

        def codegen(context, builder, sig, args):
            size = SIZES[sig.args[0].name]
            address = point_at(context, builder, sig.args[0], args[0], args[1])
            words = [ir.Constant(WORD, 0)] * (size // 8)

            def put_field(name, value):
                field, offset = EVENT.fields[name][:2]
                bits = 8 * field.itemsize
                value = builder.and_(value, ir.Constant(WORD, (1 << bits) - 1)) if bits < 64 else value
                value = builder.shl(value, ir.Constant(WORD, 8 * (offset % 8)))
                words[offset // 8] = builder.or_(words[offset // 8], value)

            put_field("seq", args[3])
            put_field("ts_ns", args[4])
            for names, group in ((ORDER_PARTS, args[5]), (ORDER_TOLD, args[6])):
                for place, name in enumerate(names):
                    put_field(name, builder.extract_value(group, place))
            vectors = []
            for start in range(0, len(words), 4):
                vector = ir.Constant(VECTOR, None)
                for place, word in enumerate(words[start : start + 4]):
                    vector = builder.insert_element(vector, word, ir.Constant(ir.IntType(32), place))
                vectors.append(vector)
            past_caches = builder.and_(args[2], is_on_line(builder, address))
            with builder.if_else(past_caches, likely=True) as (then, otherwise):
                with then:
                    put_vectors(builder, address, vectors, past_caches=True)
                with otherwise:
                    put_vectors(builder, address, vectors, past_caches=False)
            return context.get_dummy_value()

        return types.none(table, types.int64, types.boolean, types.int64, types.int64, parts, told), codegen

    def is_on_line(builder, address):
        """Return whether an address begins a cache line."""
        offset = builder.and_(builder.ptrtoint(address, WORD), ir.Constant(WORD, LINE_BYTES - 1))
        return builder.icmp_unsigned("==", offset, ir.Constant(WORD, 0))

    def put_vectors(builder, address, vectors, past_caches):
        """Store vectors one behind the other, past the caches without reading the lines first, if they begin on one."""
        target = builder.bitcast(address, VECTOR.as_pointer())
        mark = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        for place, vector in enumerate(vectors):
            step = builder.gep(target, [ir.Constant(WORD, place)])
            store = builder.store(vector, step, align=32 if past_caches else 8)
            if past_caches:
                store.set_metadata("nontemporal", mark)

    def fetch_line(builder, address, for_write):
        """Ask for one cache line."""
        half = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, half, half, half])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(fetch, [address, ir.Constant(half, for_write), ir.Constant(half, 3), ir.Constant(half, 1)])

    @intrinsic
    def prefetch(typingctx, table, index):
        """Have the processor fetch an element that will be written soon."""

        def codegen(context, builder, sig, args):
            table = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0])
            size = SIZES[sig.args[0].name]
            address = builder.gep(table.data, [builder.mul(args[1], ir.Constant(WORD, size))])
            for offset in range(0, size, LINE_BYTES):
                fetch_line(builder, builder.gep(address, [ir.Constant(WORD, offset)]), 1)
            return context.get_dummy_value()

        return types.none(table, types.int64), codegen

    @intrinsic
    def lend_events(typingctx, st, keeper, events):
        """Let a boxed state write to a keeper's events; the keeper must outlive the batch."""

        def codegen(context, builder, sig, args):
            owner = cgutils.create_struct_proxy(sig.args[1])(context, builder, value=args[1])
            array = context.make_array(sig.args[2])(context, builder, value=args[2])
            words = (builder.ptrtoint(array.data, WORD), array.nitems, builder.ptrtoint(owner.meminfo, WORD))
            for offset, word in enumerate(words, EVENTS_WORD):
                builder.store(word, builder.gep(args[0], [ir.Constant(WORD, offset)]))
            return context.get_dummy_value()

        return types.none(st, keeper, events), codegen

    @intrinsic
    def borrow_keeper(typingctx, st):
        """Return the keeper of a boxed state's events."""

        def codegen(context, builder, sig, args):
            word = builder.load(builder.gep(args[0], [ir.Constant(WORD, KEEPER_WORD)]))
            proxy = cgutils.create_struct_proxy(keeper_type)(context, builder)
            proxy.meminfo = builder.inttoptr(word, cgutils.voidptr_t)
            value = proxy._getvalue()
            context.nrt.incref(builder, keeper_type, value)
            return value

        return keeper_type(st), codegen

    @intrinsic
    def write_events(typingctx, st, address, length):
        """Point a boxed state at another event buffer."""

        def codegen(context, builder, sig, args):
            for offset, word in ((EVENTS_WORD, args[1]), (EVENTS_WORD + 1, args[2])):
                builder.store(word, builder.gep(args[0], [ir.Constant(WORD, offset)]))
            return context.get_dummy_value()

        return types.none(st, types.int64, types.int64), codegen

    def find_address(batch):
        """Return the address of the machine code of `run_batch`, which must have been called once."""
        (compiled,) = batch.overloads.values()
        code = compiled._asdict()["library"]
        return code.get_pointer_to_function(compiled.fndesc.llvm_func_name)

    @intrinsic
    def call_batch(typingctx, address, box, events, commands):
        """Call `run_batch` by its address: by its name, all of its machine code would be made a second time."""
        given, found = (box, events, commands), types.Tuple((types.int64, types.int64, events))

        def codegen(context, builder, sig, args):
            kind = context.call_conv.get_function_type(found, given)
            callee = builder.inttoptr(args[0], kind.as_pointer())
            status, result = context.call_conv.call_function(builder, callee, found, given, args[1:])
            with cgutils.if_unlikely(builder, status.is_error):
                context.call_conv.return_status_propagate(builder, status)
            return result

        return found(types.int64, *given), codegen

    @helper
    def grow_events(st):
        """Replace the event buffer by a longer one."""
        keeper = borrow_keeper(st)
        old = keeper.events
        longer = np.empty(longer_than(len(old)), EVENT)
        longer[: len(old)] = old
        keeper.events = longer
        write_events(st, longer.ctypes.data, len(longer))
