/* parse.h - what the two files of the parser share. */
#ifndef NKIGEN_IR_PARSE_H
#define NKIGEN_IR_PARSE_H

#include "ir/scan.h"

typedef struct Parser {
    Scan s;
    Ctx *cx;
    Graph *g;
    Arena tmp; /* freed when parsing ends */
    const Dialect *const *dialects;
    int ndialects;
    Map op_names;       /* name -> op code */
    Map val_names;      /* name -> Val */
    VEC(Slice) vals;    /* by Val: its name in the text; [0] is none */
    VEC(Slice) results; /* of the current op */
    VEC(Operand) operands;
    VEC(TyId) types;
    VEC(int64_t) ints;
    int loop; /* op code, 0 when the dialect has none */
    int return_line;
} Parser;

/* parse_value.c: what stands on a line; need_*: an error when it is not there */
Val find_val(const Parser *ps, Slice name);
Status need_name(Parser *ps, Slice *out); /* %name */
Status need_val(Parser *ps, Val *out);
Status need_ints(Parser *ps);                                  /* [1, 2], into ps->ints */
Status parse_types(Parser *ps);                                /* into ps->types */
Status parse_operand(Parser *ps);                              /* into ps->operands */
Status parse_attrs(Parser *ps, const OpDef *def, AttrId *out); /* behind the '{' */

#endif
