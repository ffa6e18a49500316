
/*
 * What an operation does to the store, as records on disk number it and
 * operations in memory carry it.
 */


#ifndef KV_OPCODE_H
#define KV_OPCODE_H


typedef enum {
    KV_OP_PUT = 1,
    KV_OP_DELETE = 2,
    KV_OP_CLEAR = 3,
    KV_OP_TOUCH = 4          /* a key gets another time of expiry */
} kv_op_code_t;


#endif /* KV_OPCODE_H */
