/* Maps of classes: bytes coded by what their neighbours are (docs/format.md, section 4.10).
 *
 * Strategy: a pixel of a map is nearly always one of its neighbours. Whole pieces of rows
 * that repeat the row above are one decision; elsewhere a pixel is asked "like the one to
 * the left? above? ..." with a probability learned for each pattern of neighbours. The
 * decisions are written by a binary arithmetic coder. One function, `pixels`, walks the
 * map for encoder and decoder alike, so that they cannot disagree.
 *
 * Trust: a decoder reads zeros behind the end and writes only into the caller's array;
 * whatever the bytes are, it ends after one walk.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static __forceinline
#endif

#define PIECE 32      /* pixels of a row that are compared with the row above at once */
#define LIMIT 64      /* decisions after which a probability goes on as a moving average */
#define LEAST 32      /* of 65536: no decision is surer than this */
#define LEFT 0        /* where the states of each question begin */
#define ABOVE 2048
#define BEFORE 3072
#define OTHERS 3088
#define PIECES 3344
#define SAME 3408
#define STATES 3412   /* behind these: trees of bits, one for each value to the left */

typedef struct {
    uint16_t one; /* probability of a 1, of 65536 */
    uint16_t seen;
} State;

typedef struct {
    uint32_t low, high, code; /* of the interval; `code` is the decoder's */
    const uint8_t *next, *end;
    uint8_t *to, *out, *limit; /* the encoder's */
    int is_full;              /* there was no memory for more */
    State *states;
    uint16_t steps[LIMIT + 1];
} Coder;

INLINE void learn(Coder *c, State *s, int bit) {
    uint32_t step = c->steps[s->seen];
    if (bit) s->one = (uint16_t)(s->one + ((65536u - s->one) * step >> 16));
    else s->one = (uint16_t)(s->one - (s->one * step >> 16));
    if (s->one < LEAST) s->one = LEAST;
    if (s->one > 65536 - LEAST) s->one = 65536 - LEAST;
    s->seen += s->seen < LIMIT;
}

INLINE int code(Coder *c, State *s, int bit, int is_encoding) {
    uint32_t middle = c->low + (uint32_t)((uint64_t)(c->high - c->low) * s->one >> 16);
    if (!is_encoding) bit = c->code <= middle;
    if (bit) c->high = middle;
    else c->low = middle + 1;
    learn(c, s, bit);
    while ((c->low ^ c->high) >> 24 == 0) {
        if (is_encoding) *c->to++ = (uint8_t)(c->high >> 24);
        else c->code = c->code << 8 | (c->next < c->end ? *c->next++ : 0);
        c->low <<= 8;
        c->high = c->high << 8 | 255;
    }
    return bit;
}

/* What is around pixel (row, col); beyond the map the nearest that is known. */
typedef struct {
    uint8_t w, n, nw, ne, nee, ww, nn, nne, nww;
    int before; /* the pixel in the plane before, -1 where there is none */
} Around;

INLINE Around look(const uint8_t *x, const uint8_t *up, const uint8_t *upup, const uint8_t *last, int64_t c, int64_t width) {
    Around a;
    a.before = last ? last[c] : -1;
    a.w = c ? x[c - 1] : up ? up[0] : 0;
    a.n = up ? up[c] : a.w;
    a.nw = up && c ? up[c - 1] : a.n;
    a.ne = up && c + 1 < width ? up[c + 1] : a.n;
    a.nee = up && c + 2 < width ? up[c + 2] : a.ne;
    a.ww = c > 1 ? x[c - 2] : a.w;
    a.nn = upup ? upup[c] : a.n;
    a.nne = upup && c + 1 < width ? upup[c + 1] : a.nn;
    a.nww = up && c > 1 ? up[c - 2] : a.nw;
    return a;
}

INLINE uint8_t pixel(Coder *k, const Around *a, uint8_t v, int bits, int is_encoding) {
    State *s = k->states;
    int pattern = (a->n == a->w) | (a->nw == a->w) << 1 | (a->ne == a->w) << 2 | (a->ww == a->w) << 3 | (a->ne == a->n) << 4 |
                  (a->nw == a->n) << 5 | (a->nn == a->n) << 6 | (a->nee == a->ne) << 7 | (a->nww == a->nw) << 8;
    int before = a->before, like = before < 0 ? 0 : before == a->w ? 1 : before == a->n ? 2 : 3;
    if (code(k, s + LEFT + 512 * like + pattern, v == a->w, is_encoding)) return a->w;
    if (a->n != a->w) {
        pattern = (a->nw == a->w) | (a->nw == a->n) << 1 | (a->ne == a->n) << 2 | (a->nn == a->n) << 3 | (a->nne == a->ne) << 4 |
                  (a->ww == a->w) << 5 | (a->nee == a->ne) << 6 | (a->ww == a->n) << 7;
        if (code(k, s + ABOVE + 256 * like + pattern, v == a->n, is_encoding)) return a->n;
    }
    if (like == 3) {
        pattern = (a->nw == before) | (a->ne == before) << 1 | (a->ww == before) << 2 | (a->nn == before) << 3;
        if (code(k, s + BEFORE + pattern, v == before, is_encoding)) return (uint8_t)before;
    } else {
        before = -1; /* asked for already, if it is there */
    }
    if (a->ne != a->w && a->ne != a->n && a->ne != before) {
        pattern = (a->n == a->w) | (a->nw == a->n) << 1 | (a->nee == a->ne) << 2 | (a->nw == a->w) << 3 | (a->nne == a->ne) << 4;
        if (code(k, s + OTHERS + pattern, v == a->ne, is_encoding)) return a->ne;
    }
    if (a->nw != a->w && a->nw != a->n && a->nw != before && a->nw != a->ne) {
        pattern = 64 | (a->n == a->w) | (a->ne == a->n) << 1 | (a->ww == a->nw) << 2;
        if (code(k, s + OTHERS + pattern, v == a->nw, is_encoding)) return a->nw;
    }
    if (a->ww != a->w && a->ww != a->n && a->ww != before && a->ww != a->ne && a->ww != a->nw) {
        pattern = 128 | (a->n == a->w) | (a->ne == a->n) << 1;
        if (code(k, s + OTHERS + pattern, v == a->ww, is_encoding)) return a->ww;
    }
    if (a->nn != a->w && a->nn != a->n && a->nn != before && a->nn != a->ne && a->nn != a->nw && a->nn != a->ww) {
        pattern = 192 | (a->n == a->w) | (a->ne == a->n) << 1;
        if (code(k, s + OTHERS + pattern, v == a->nn, is_encoding)) return a->nn;
    }
    State *tree = s + STATES + ((int64_t)a->w << bits);
    uint32_t node = 1;
    for (int i = bits - 1; i >= 0; i--) node = node << 1 | (uint32_t)code(k, tree + node, v >> i & 1, is_encoding);
    return (uint8_t)(node - (1u << bits));
}

/* Whether a piece of a row is the row above, or (in the first row) what is to its left. */
INLINE int piece_repeats(const uint8_t *x, const uint8_t *up, int64_t start, int64_t stop) {
    if (up) return !memcmp(x + start, up + start, (size_t)(stop - start));
    uint8_t left = start ? x[start - 1] : 0;
    for (int64_t c = start; c < stop; c++) if (x[c] != left) return 0;
    return 1;
}

/* Have room for a piece: at most 16 decisions a pixel, of at most 2 bytes each. */
static void make_room(Coder *k) {
    size_t used = (size_t)(k->to - k->out), size = (size_t)(k->limit - k->out);
    if (size - used >= PIECE * 34 + 16 || k->is_full) return;
    uint8_t *larger = realloc(k->out, 2 * size + PIECE * 64);
    if (!larger) {
        k->is_full = 1, k->to = k->out; /* what is written from here on is thrown away */
        return;
    }
    k->out = larger, k->to = larger + used, k->limit = larger + 2 * size + PIECE * 64;
}

/* What is known of the pieces of a row and of the row above. */
typedef struct {
    uint8_t repeats, is_same;
} Piece;

/* Code whether pixels start to stop of a row are those of the plane before (`last`), or those of the row above (`up`);
 * returns whether one of them is so. */
INLINE int piece(Coder *k, uint8_t *x, const uint8_t *up, const uint8_t *last, int64_t start, int64_t stop, int64_t width,
                 const Piece *before, Piece *here, int is_encoding) {
    size_t n = (size_t)(stop - start);
    Piece above = *here;
    int is_even = 1, left = 1, right = 1;
    here->repeats = here->is_same = 0;
    if (last) {
        int bit = is_encoding && !memcmp(x + start, last + start, n), pattern = before->is_same << 1 | above.is_same;
        here->is_same = (uint8_t)code(k, k->states + SAME + pattern, bit, is_encoding);
        if (here->is_same) {
            if (!is_encoding) memcpy(x + start, last + start, n);
            return 1;
        }
    }
    if (up) {
        int64_t from = start ? start - 1 : 0, to = stop < width ? stop + 1 : width;
        for (int64_t c = from; c < to; c++) is_even &= up[c] == up[start];
        if (start) left = x[start - 1] == up[start - 1], right = x[start - 1] == up[start];
    }
    int pattern = (last != NULL) << 5 | before->repeats << 4 | above.repeats << 3 | is_even << 2 | left << 1 | right;
    int bit = is_encoding ? piece_repeats(x, up, start, stop) : 0;
    here->repeats = (uint8_t)code(k, k->states + PIECES + pattern, bit, is_encoding);
    if (here->repeats && !is_encoding) {
        if (up) memcpy(x + start, up + start, n);
        else memset(x + start, start ? x[start - 1] : 0, n);
    }
    return here->repeats;
}

INLINE void plane(Coder *k, uint8_t *values, const uint8_t *last, int64_t height, int64_t width, int bits, Piece *pieces, int is_encoding) {
    memset(pieces, 0, (size_t)((width + PIECE - 1) / PIECE) * sizeof(Piece));
    for (int64_t row = 0; row < height; row++, last = last ? last + width : NULL) {
        uint8_t *x = values + row * width;
        const uint8_t *up = row ? x - width : NULL, *upup = row > 1 ? up - width : NULL;
        Piece none = {0, 0}, *before = &none;
        for (int64_t start = 0, p = 0; start < width; start += PIECE, p++) {
            int64_t stop = width - start < PIECE ? width : start + PIECE;
            if (is_encoding) {
                make_room(k);
                if (k->is_full) return;
            }
            int is_known = piece(k, x, up, last, start, stop, width, before, pieces + p, is_encoding);
            before = pieces + p;
            if (is_known) continue;
            for (int64_t c = start; c < stop; c++) {
                Around a = look(x, up, upup, last, c, width);
                uint8_t v = pixel(k, &a, is_encoding ? x[c] : 0, bits, is_encoding);
                if (!is_encoding) x[c] = v;
            }
        }
    }
}

/* Have states for values of so many bits; 0 where there is no memory. */
static int start_coder(Coder *k, int bits) {
    size_t count = STATES + ((size_t)1 << 2 * bits);
    k->states = malloc(count * sizeof(State));
    if (!k->states) return 0;
    for (size_t i = 0; i < count; i++) k->states[i].one = 32768, k->states[i].seen = 0;
    for (uint32_t n = 0; n <= LIMIT; n++) k->steps[n] = (uint16_t)(131072 / (2 * n + 3));
    k->low = 0, k->high = 0xFFFFFFFF;
    return 1;
}

static void encode_planes(Coder *k, const uint8_t *values, int64_t planes, int64_t height, int64_t width, int bits, Piece *pieces) {
    int64_t size = height * width;
    for (int64_t p = 0; p < planes; p++)
        plane(k, (uint8_t *)values + p * size, p ? values + (p - 1) * size : NULL, height, width, bits, pieces, 1);
    /* As many bytes as single out the interval from what a reader adds, which are zeros. */
    uint32_t value = k->high;
    for (int keep = 0; keep < 4; keep++) {
        uint32_t zeros = keep ? 0xFFFFFFFFu >> 8 * keep : 0xFFFFFFFFu;
        if ((k->high & ~zeros) >= k->low) {
            value = k->high & ~zeros;
            break;
        }
    }
    for (; value; value <<= 8) *k->to++ = (uint8_t)(value >> 24);
}

static void decode_planes(Coder *k, uint8_t *values, int64_t planes, int64_t height, int64_t width, int bits, Piece *pieces) {
    int64_t size = height * width;
    for (int i = 0; i < 4; i++) k->code = k->code << 8 | (k->next < k->end ? *k->next++ : 0);
    for (int64_t p = 0; p < planes; p++)
        plane(k, values + p * size, p ? values + (p - 1) * size : NULL, height, width, bits, pieces, 0);
}

static int take_map(PyObject *array, int flags, int bits, Py_buffer *view) {
    if (PyObject_GetBuffer(array, view, PyBUF_ND | flags)) return 0;
    if (view->ndim == 3 && view->itemsize == 1 && view->len > 0 && view->len <= (Py_ssize_t)1 << 33 && bits >= 1 && bits <= 8) return 1;
    PyErr_SetString(PyExc_ValueError, "classes: expected bytes (plane, row, col) and 1 to 8 bits");
    PyBuffer_Release(view);
    return 0;
}

/* encode(values, bits) -> bytes: uint8 values (plane, row, col) below 2^bits */
static PyObject *py_encode(PyObject *self, PyObject *args) {
    PyObject *array, *result = NULL;
    Py_buffer view;
    int bits, is_small = 1;
    (void)self;
    if (!PyArg_ParseTuple(args, "Oi", &array, &bits) || !take_map(array, PyBUF_SIMPLE, bits, &view)) return NULL;
    Coder k = {0};
    const uint8_t *values = view.buf;
    const size_t size = 1 << 16;
    Piece *pieces = malloc((size_t)(view.shape[2] / PIECE + 1) * sizeof(Piece));
    k.to = k.out = malloc(size);
    if (!k.out || !pieces || !start_coder(&k, bits)) {
        PyErr_NoMemory();
        goto done;
    }
    k.limit = k.out + size;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < view.len && is_small; i++) is_small = values[i] >> bits == 0;
    if (is_small) encode_planes(&k, values, view.shape[0], view.shape[1], view.shape[2], bits, pieces);
    Py_END_ALLOW_THREADS
    if (k.is_full) PyErr_NoMemory();
    else if (is_small) result = PyBytes_FromStringAndSize((const char *)k.out, k.to - k.out);
    else PyErr_Format(PyExc_ValueError, "classes: a value of more than %d bits", bits);
done:
    free(k.out);
    free(pieces);
    free(k.states);
    PyBuffer_Release(&view);
    return result;
}

/* decode(data, values, bits): fills uint8 values (plane, row, col) */
static PyObject *py_decode(PyObject *self, PyObject *args) {
    PyObject *array, *result = NULL;
    Py_buffer data, view;
    int bits;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*Oi", &data, &array, &bits)) return NULL;
    if (!take_map(array, PyBUF_WRITABLE, bits, &view)) {
        PyBuffer_Release(&data);
        return NULL;
    }
    Coder k = {0};
    Piece *pieces = malloc((size_t)(view.shape[2] / PIECE + 1) * sizeof(Piece));
    if (!pieces || !start_coder(&k, bits)) {
        PyErr_NoMemory();
        goto done;
    }
    k.next = data.buf, k.end = k.next + data.len;
    Py_BEGIN_ALLOW_THREADS
    decode_planes(&k, view.buf, view.shape[0], view.shape[1], view.shape[2], bits, pieces);
    Py_END_ALLOW_THREADS
    result = Py_None;
    Py_INCREF(result);
done:
    free(pieces);
    free(k.states);
    PyBuffer_Release(&data);
    PyBuffer_Release(&view);
    return result;
}

static PyMethodDef methods[] = {
    {"encode", py_encode, METH_VARARGS, "encode(values, bits) -> bytes"},
    {"decode", py_decode, METH_VARARGS, "decode(data, values, bits)"},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_classes", "Maps of classes.", 0, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__classes(void) { return PyModule_Create(&module); }
