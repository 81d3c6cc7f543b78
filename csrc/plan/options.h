/* options.h - what the caller of the compiler asks for; every pass sees it. */
#ifndef NKIGEN_OPTIONS_H
#define NKIGEN_OPTIONS_H

#include "ir/ir.h"

typedef enum NarrowPolicy { NARROW_warn, NARROW_error } NarrowPolicy;
typedef enum Optimize { OPT_default, OPT_fast, OPT_search } Optimize; /* how many orders of the program are tried */
typedef struct CompileOptions {
    int target; /* Target */
    NarrowPolicy narrow;
    Optimize optimize;
    const char *plan;  /* forced plan text, or NULL */
    int64_t row_bytes; /* fuse: at most so many bytes of a value's row in a partition; 0: the default */
    int64_t max_ops;   /* fuse: at most so many ops in a group; 0: no limit */
    bool verify;       /* plan: every candidate that is priced */
    bool quick;        /* pipeline: the first order that comes, to compare candidates */
    int64_t sbuf_taken; /* bytes per partition that are not for the program at hand */
} CompileOptions;

#endif
