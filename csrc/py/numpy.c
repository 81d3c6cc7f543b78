/* numpy.c - the one file that imports NumPy's C API, whose tables all others use; and the state of the module by a
 * type.
 */
#define NKIGEN_IMPORTS_NUMPY
#include "py/py.h"

int
numpy_init(void)
{
    return PyArray_ImportNumPyAPI() < 0 || PyUFunc_ImportUFuncAPI() < 0 ? -1 : 0;
}

State *
state_of_type(PyTypeObject *t)
{
    return PyType_GetModuleState(t);
}
