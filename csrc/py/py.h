/* py.h - the Python boundary: the only layer that includes Python.h and the NumPy C API.
 *
 * Everything hangs from the module state. A Session owns one compilation: its Ctx, the traced graph and the compiled
 * stages. TracedArray, Program and the arrays made of constants hold a reference to their Session, so graphs outlive
 * whatever points into them.
 */
#ifndef NKIGEN_PY_H
#define NKIGEN_PY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL nkigen_ARRAY_API
#define PY_UFUNC_UNIQUE_SYMBOL nkigen_UFUNC_API
#ifndef NKIGEN_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#define NO_IMPORT_UFUNC
#endif
#include <numpy/arrayobject.h>
#include <numpy/ufuncobject.h>

#include "driver/driver.h"

typedef enum Error { /* classes of nkigen.errors */
                     E_Nkigen,
                     E_Trace,
                     E_Shape,
                     E_Index,
                     E_DType,
                     E_Unsupported,
                     E_Verify,
                     E_Parse,
                     E_HardwareLimit,
                     E_Internal,
                     E_COUNT
} Error;

typedef struct State { /* of the module */
    PyObject *error[E_COUNT];
    PyObject *np_dtype[DT_COUNT]; /* PyArray_Descr */
    PyObject *reference[T_COUNT]; /* what the reference interpreter calls; NULL for the ops it knows itself */
    PyObject *np, *ops;           /* modules numpy and nkigen.ops; ops is imported when first needed */
    PyObject *live, *target;      /* functions of nkigen.buffers, imported when first needed */
    PyObject *no_value;           /* numpy._NoValue */
    PyObject *same_kind;          /* str: the casting rule of ufuncs and joins */
    PyObject *ufuncs;             /* dict: ufunc -> its TOp, 0 when it has none */
    PyObject *functions;          /* dict: NumPy function -> row of functions.def */
    PyObject *skip;               /* tuple of file name prefixes whose frames are not the user's */
    PyTypeObject *session, *traced, *program;
    int64_t fail_after; /* test hook: Mem.fail_after of new sessions */
} State;

typedef struct Parameter { /* a parameter of the kernel */
    PyObject *handle;  /* its TracedArray; NULL once the trace is over */
    bool written;      /* an output updates it */
} Parameter;

typedef struct Session {     /* one trace and at most one compile */
    PyObject_HEAD State *st; /* borrowed: the type keeps the module */
    Ctx cx;
    bool has_cx;
    Graph *graph; /* traced or parsed */
    Compiled compiled;
    bool has_compiled, open; /* open: ops may be added */
    const void *last_code;   /* the code object of the last location, a user's */
    PyObject *user_codes;    /* {address: code}: keeps alive what locations point to */
    PyObject *other_codes;   /* {address: code}: frames to skip */
    PyThread_type_lock lock; /* held while C code uses cx without the GIL */
    unsigned long owner;     /* thread that holds the lock, */
    long process;            /* and its process */
    bool locked;
    PyObject *label; /* str: name of the traced function */
    Parameter *param; /* in order */
    size_t nparams;
} Session;

typedef struct View View; /* a chain of layout ops from the elements of an owner; immutable, lives as long as the Ctx */
struct View {
    const View *before; /* NULL: the owner comes before */
    TOp op;             /* T_slice, T_transpose, T_reshape or T_broadcast_to */
    AttrId attr;
    Type from; /* what the op is applied to */
    LocId loc;
    uint32_t depth; /* steps up to this one */
};

typedef struct Traced { /* a TracedArray */
    PyObject_HEAD Session *session;
    Graph *graph;
    struct Traced *base;   /* whose elements these are; NULL: its own */
    const View *view;      /* where in the base they lie; NULL: they are all of it, in order */
    const int64_t *stride; /* NumPy's, in elements; NULL: C order */
    Val val;               /* of a view: at `version` of its base */
    uint32_t version;      /* of an owner: how often it was written */
    int64_t input;         /* which parameter it is; -1: none */
    bool scalar;           /* a NumPy scalar: 0-d and immutable */
    bool readonly;
} Traced;

typedef struct Program { /* one stage; immutable */
    PyObject_HEAD Session *session;
    const Graph *graph; /* of a plan, the program that it is about */
    Plan *plan;         /* NULL: the stage is the graph */
    PyObject *name;
    PyObject *text; /* str, made when first asked for */
    bool foreign;   /* read from text: nobody has verified it */
} Program;

/* numpy.c */
int numpy_init(void);
State *state_of_type(PyTypeObject *t);

/* errors.c - Status and locations to exceptions; the only place that makes them.
 * All return NULL (or -1) with the exception set. */
PyObject *raise_status(Session *s, Status st, Error user);       /* from s->cx.err; `user` is what ST_USER means here */
PyObject *raise_here(Session *s, Error e, const char *fmt, ...); /* at the user's current line */
PyObject *raise_plain(State *st, Error e, const char *fmt, ...); /* no location */
/* NumPy's words in an error of ours: takes the place of the exception that is set; `unsaid` if that one has no text */
PyObject *raise_instead(Session *s, Error e, const char *what, const char *unsaid);
const char *text_of(State *st, PyObject *str, Py_ssize_t *n);    /* IR or plan text, a str, as UTF-8; E_Parse: it is none */
PyObject *coded_message(int code, const char *msg);              /* str: "NKI-1001 ...", as NkigenError takes it */
PyObject *loc_object(Session *s, LocId loc);                     /* (code, offset), (None, line, column) or None */
PyObject *utf8_of(PyObject *o); /* str(o) as bytes, new; surrogates, which UTF-8 cannot hold, are escaped */
LocId here(Session *s);                                          /* the user's current expression */
bool session_enter(Session *s); /* takes the lock; false with an exception set when this thread already holds it */
void session_leave(Session *s);

/* array.c - dtypes and arrays in and out */
int np_dtypes_init(State *st);
DType dtype_of_descr(const State *st, const PyArray_Descr *d);       /* DT_none: not ours */
int dtype_of_object(State *st, Session *s, PyObject *o, DType *out); /* text, NumPy dtype, scalar type; typed error */
int check_cast(Session *s, const char *what, DType from, DType to, PyObject *casting); /* NULL: what NumPy reduces with */
PyObject *np_type_object(const State *st, DType dt);                 /* new reference to the descr */
int const_of_array(Session *s, PyArrayObject *a, Val *out);          /* a strong array constant */
/* The TracedArray that an array made inside of the kernel has become by a traced write (nkigen.buffers), new; NULL
 * without an exception: it has not. */
PyObject *live_array(Session *s, PyObject *o);
PyObject *target_array(Session *s, PyObject *o); /* the same, and makes it one: what a write to `o` changes */
int check_plain(State *st, Session *s, const char *what, PyObject *o); /* no subclass of ndarray with rules of its own */
PyObject *array_of_list(Session *s, const char *what, PyObject *list); /* numpy.array of it; typed errors */
/* A Python or NumPy object as an operand; weak as in promote(). Raises at the user's line. */
int operand_of(Session *s, const char *what, PyObject *o, Val *out, char *weak);
PyObject *array_of_data(Session *s, const Data *d, const Type *ty);           /* read-only view on a constant */
bool is_index(PyObject *o);                                                   /* one integer */
int dims_of(Session *s, const char *what, PyObject *o, int64_t *dim, int *n); /* an int or a sequence of ints */
int indices_of(Session *s, const char *what, PyObject *o, bool bools, int64_t *out, int *n); /* True as 1, if bools */
PyObject *int_tuple(const int64_t *v, int n);

/* session.c */
extern PyType_Spec session_spec;
Session *session_new(State *st, PyObject *label);

/* traced.c - the object */
bool is_traced(PyObject *o);
PyObject *traced_new(Session *s, Val v); /* an owner in C order; of rank 0: a scalar */
bool usable(Session *s, PyObject *traced); /* belongs to s and s is still open; else an exception is set */
int traced_traverse(PyObject *self, visitproc visit, void *arg);
void traced_dealloc(PyObject *self);
PyObject *traced_repr(PyObject *self);

/* traced_type.c */
extern PyType_Spec traced_spec;

/* operators.c */
PyObject *traced_binary(Session *s, TOp op, PyObject *a, PyObject *b);
PyObject *traced_unary(Session *s, TOp op, PyObject *a);
PyObject *traced_divmod(Session *s, PyObject *a, PyObject *b);
PyObject *traced_result(Session *s, Status st, Val v); /* the value, or the exception of a failed builder call */
int traced_operand(Session *s, const char *what, PyObject *o, Val *out); /* like operand_of, scalars as strong */
static inline const Type *
type_of(Session *s, Val v)
{
    return val_type(s->graph, v);
}

/* absent.c */
PyObject *raise_absent(Session *s, const char *module, const char *name); /* UnsupportedError that names a way */
PyObject *traced_getattro(PyObject *self, PyObject *name);
#define ABSENT_METHOD(name, error, what, way)                                                                          \
    PyObject *absent_##name(PyObject *self, PyObject *args, PyObject *kwargs);
#define ABSENT_MEMBER(name, error, what, way) PyObject *absent_##name(PyObject *self, void *closure);
#include "py/absent.def"

/* cell.c - owners and views. `of` is a TracedArray of s; a failure raises and gives NULL or -1 */
int traced_val(PyObject *o, Val *out);     /* the value that it has now */
const Type *traced_type(PyObject *o);
void traced_strides(PyObject *o, int64_t *stride); /* in elements */
bool is_c_order(PyObject *o); /* in memory, as NumPy would have it; of anything */
PyObject *traced_array(Session *s, Status st, Val v, bool scalar); /* an owner in C order, or the exception of st */
/* A ufunc's result, in the memory order that its at most 3 operands ask for. */
PyObject *traced_like(Session *s, Status st, Val v, PyObject *const *in, int n);
/* r, laid out as the arrays of a sequence that it joins ask for; axis: where each got one of size 1, or -1. */
PyObject *traced_joined(Session *s, PyObject *r, PyObject *seq, int axis);
PyObject *traced_reduced(Session *s, Status st, Val v, PyObject *in, const int64_t *axes, int n); /* n < 0: all */
PyObject *traced_copy(Session *s, PyObject *of, Val v, bool keep_order); /* an owner of v, laid out like `of` or C */
PyObject *view_slice(Session *s, PyObject *of, const Box *b);
PyObject *view_transpose(Session *s, PyObject *of, const int64_t *perm, int n); /* n 0: reverse all */
PyObject *view_reshape(Session *s, PyObject *of, const int64_t *dim, int n);    /* a copy where NumPy copies */
PyObject *view_broadcast(Session *s, PyObject *of, const int64_t *dim, int n);  /* read-only */
PyObject *view_restrided(Session *s, PyObject *view,
                         const int64_t *stride); /* of a new handle: the strides its memory has */
/* memory.c - a view given by offset and strides, in elements of its owner */
PyObject *view_of_memory(Session *s, PyObject *owner, int64_t offset, int rank, const int64_t *dim,
                         const int64_t *stride);
int traced_write(Session *s, PyObject *o, Val v); /* v: of the type of o */
bool is_writable(Session *s, PyObject *o);        /* else an exception is set */

/* inplace.c - writes as NumPy's assignments and in-place operators do them */
int traced_store(Session *s, const char *name, PyObject *target, PyObject *result); /* out= of a ufunc */
#define INPLACE(slot) PyObject *slot(PyObject *a, PyObject *b);
INPLACE(nb_inplace_add)
INPLACE(nb_inplace_subtract)
INPLACE(nb_inplace_multiply)
INPLACE(nb_inplace_true_divide)
INPLACE(nb_inplace_floor_divide)
INPLACE(nb_inplace_remainder)
INPLACE(nb_inplace_matrix_multiply)
INPLACE(nb_inplace_and)
INPLACE(nb_inplace_or)
INPLACE(nb_inplace_xor)
INPLACE(nb_inplace_lshift)
INPLACE(nb_inplace_rshift)
#undef INPLACE
PyObject *nb_inplace_power(PyObject *a, PyObject *b, PyObject *mod);

int traced_ass_subscript(PyObject *self, PyObject *key, PyObject *value);

/* index.c */
PyObject *traced_subscript(PyObject *self, PyObject *key);
PyObject *view_of_key(PyObject *self, PyObject *key); /* always an array, also for a single element */

/* arguments.c - binding and conversion of what NumPy functions are called with; failures raise, -1 or NULL */
#define MAX_PARAMS 12
static inline bool
given(PyObject *o)
{
    return o && o != Py_None;
}
/* By a signature of functions.def. Borrowed references in out, NULL for absent ones; the tuple of a '*name' is new. */
int bind_arguments(Session *s, const char *name, const char *sig, PyObject *const *args, Py_ssize_t n, PyObject *kwargs,
                   PyObject **out, PyObject **rest);
int flag_of(Session *s, const char *name, PyObject *o, bool *out);
int int_of(Session *s, const char *name, PyObject *o, int64_t *out);
int plain_int_of(Session *s, const char *name, PyObject *o, int64_t *out);          /* no bool */
int axes_of(Session *s, const char *name, PyObject *o, int64_t *axes, int *n);      /* as given; *n -1: all */
int axis_of(Session *s, const char *name, PyObject *o, int64_t absent, int rank, int64_t *axis); /* in [0, rank) */
int normal_axes(Session *s, const char *name, PyObject *o, int rank, int64_t *axes, int *n);     /* in [0, rank) */
int distinct_axes(Session *s, const char *name, PyObject *o, int rank, int64_t *axes, int *n);   /* each once */
int real_of(Session *s, const char *name, PyObject *o, double *out);
int dtype_arg(Session *s, PyObject *o, DType *dt); /* *dt stays as it is without one */
int two_operands(Session *s, const char *name, PyObject *const *a, Val *x, Val *y);
Py_ssize_t values_of(Session *s, const char *name, PyObject *seq, Val **out); /* a traced array: its parts */
PyObject *as_traced(Session *s, const char *name, PyObject *o);
PyObject *unpacked(PyObject *rest); /* the dims of a method: x.f(2, 3) or x.f((2, 3)) */

/* loops.c */
/* The operands in the dtypes of the loop that NumPy takes, a new tuple, and the dtype of the (first) result; dtype and
 * casting may be NULL. */
PyObject *operands_of_loop(Session *s, PyObject *ufunc, const char *name, PyObject *const *args, Py_ssize_t n,
                           PyObject *dtype, PyObject *casting, PyObject **result);
PyObject *plain_operands(Session *s, const char *name, PyObject *const *args, Py_ssize_t n); /* new: no lists */
PyObject *ops_module(State *st); /* nkigen.ops, imported when first needed; borrowed */

/* names.c */
PyObject *core_name_table(PyObject *module, PyObject *ignored);

/* functions.c - NumPy's protocols and methods, table-driven from functions.def */
int functions_init(State *st);
PyObject *call_function(Session *s, int row, PyObject *const *args, Py_ssize_t n, PyObject *kwargs);
PyObject *traced_array_ufunc(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *traced_array_function(PyObject *self, PyObject *args);
enum {
#define FN(id, handler, sig) FN_##id,
#define METHOD(id, handler, sig, doc) FN_m_##id,
#include "py/functions.def"
    FN_COUNT
};
#define METHOD(id, handler, sig, doc) PyObject *method_##id(PyObject *self, PyObject *args, PyObject *kwargs);
#define COMPOSED(id, doc) PyObject *method_##id(PyObject *self, PyObject *args, PyObject *kwargs);
#include "py/functions.def"

/* functions_cast.c, functions_compute.c, functions_layout.c, functions_join.c - a handler per name in functions.def */
typedef PyObject *Handler(Session *s, const char *name, PyObject *const *a);
#define FN(id, handler, sig) Handler fn_##handler;
#define METHOD(id, handler, sig, doc) Handler fn_##handler;
#include "py/functions.def"
bool keeps_order(PyObject *order, PyObject *x, bool absent);      /* whether a copy of x is in the order of x, else C */
bool wants_fortran(PyObject *order, PyObject *x);                 /* ... or in Fortran order */
bool is_fortran_order(PyObject *x);
Status at_least(Session *s, Val x, int rank, Val *v); /* axes of size 1 in front; functions_layout.c */

/* program_io.c - before a program runs */
typedef struct WorkLimit { /* of a run */
    int64_t most; /* units of eval.h; 0: no limit */
    bool text;    /* and twice what all ops take that are executed once */
} WorkLimit;
bool work_allowed(Session *s, WorkLimit limit, double once, double all); /* false with an exception set */
/* How many; tile IR: its buffers by index. *v: allocated with PyMem. */
int program_io(Session *s, const Graph *g, bool outputs, Val **v);
bool program_is_legal(Program *p); /* verifies what came as text; false with an exception set */

/* program.c */
extern PyType_Spec program_spec;
PyObject *program_new(Session *s, const Graph *g, Plan *plan, const char *name);
PyObject *cost_dict(const Cost *c);

/* program_text.c - slots and methods of Program */
PyObject *program_str(PyObject *self);
PyObject *program_nki(PyObject *self, PyObject *ignored);
PyObject *program_brief(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *program_html(PyObject *self, PyObject *ignored);
PyObject *program_digest(PyObject *self, PyObject *ignored); /* 32 bytes; equal texts have equal ones */
PyObject *program_richcompare(PyObject *a, PyObject *b, int op);
Py_hash_t program_hash(PyObject *self);

/* reference.c - tensor IR through NumPy; arrays as given, checked against the inputs' types */
/* watch: NULL, or called with every result; then the ids of the outputs are returned, not their values. */
PyObject *reference_run(Session *s, const Graph *g, PyObject *const *args, Py_ssize_t n, WorkLimit limit,
                        PyObject *watch);

/* simulate.c - tile IR through the simulator, without the GIL */
PyObject *simulate_run(Session *s, const Graph *g, PyObject *const *args, Py_ssize_t n, WorkLimit limit);
PyArrayObject *array_argument(Session *s, PyObject *arg, const Type *ty, Py_ssize_t i, const char *name);

#endif
