/* FLAC frames (RFC 9639) to samples and back, and rows from their predictions.
 *
 * Strategy: rasters have no time for a callback per frame, and a window of a scene is
 * decoded far more often than it is written; so frames are decoded in one call, without
 * the GIL, with the prediction undone in the same loop that reads the Rice codes: the
 * two chains of dependent instructions overlap. The encoder looks for what decodes fast:
 * low orders, unless a higher one saves enough.
 *
 * Trust: nothing in the bytes is believed. Every read is bounded by the buffer, every
 * write by the caller's array, frame headers must agree with what the caller expects,
 * and both CRCs of every frame are compared, the long one not where the caller has compared
 * a checksum of its own over these bytes. Arithmetic on samples is unsigned, so
 * damaged frames wrap around instead of being undefined.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define INLINE static inline __attribute__((always_inline))
#define CLZ64(x) __builtin_clzll(x)
#define CTZ64(x) __builtin_ctzll(x)
#define SWAP64(x) __builtin_bswap64(x)
#else
#include <intrin.h>
#include <stdlib.h>
#define LIKELY(x) (x)
#define INLINE static __forceinline
static __forceinline int CLZ64(uint64_t x) { unsigned long i; _BitScanReverse64(&i, x); return 63 - (int)i; }
static __forceinline int CTZ64(uint64_t x) { unsigned long i; _BitScanForward64(&i, x); return (int)i; }
#define SWAP64(x) _byteswap_uint64(x)
#endif
/* One build for every x86-64, and the wide instructions where the processor has them. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define WIDE __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define WIDE
#endif

#define MAX_BLOCKSIZE 65535
#define MAX_CHANNELS 8
#define MAX_ORDER 32
#define MAX_PARTITION_ORDER 8

static uint8_t crc8_table[256];
static uint16_t crc16_table[8][256];

static void make_crc_tables(void) {
    for (int i = 0; i < 256; i++) {
        uint32_t c8 = (uint32_t)i, c16 = (uint32_t)i << 8;
        for (int bit = 0; bit < 8; bit++) {
            c8 = c8 & 0x80 ? (c8 << 1) ^ 0x07 : c8 << 1;
            c16 = c16 & 0x8000 ? (c16 << 1) ^ 0x8005 : c16 << 1;
        }
        crc8_table[i] = (uint8_t)c8;
        crc16_table[0][i] = (uint16_t)c16;
    }
    for (int i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++) {
            uint16_t c = crc16_table[t - 1][i];
            crc16_table[t][i] = (uint16_t)(c << 8 ^ crc16_table[0][c >> 8]);
        }
}

static uint8_t crc8(const uint8_t *p, size_t n) {
    uint8_t crc = 0;
    while (n--) crc = crc8_table[crc ^ *p++];
    return crc;
}

static uint16_t crc16(const uint8_t *p, size_t n) {
    uint16_t crc = 0;
    for (; n >= 8; n -= 8, p += 8)
        crc = (uint16_t)(
            crc16_table[7][p[0] ^ crc >> 8] ^ crc16_table[6][p[1] ^ (crc & 255)] ^
            crc16_table[5][p[2]] ^ crc16_table[4][p[3]] ^ crc16_table[3][p[4]] ^
            crc16_table[2][p[5]] ^ crc16_table[1][p[6]] ^ crc16_table[0][p[7]]);
    while (n--) crc = (uint16_t)(crc << 8 ^ crc16_table[0][crc >> 8 ^ *p++]);
    return crc;
}

/* ---- reading bits ---------------------------------------------------------------- */

typedef struct {
    uint64_t bits;       /* next bits, from the top; below `count` they are zero or stale */
    int count;           /* how many of them are valid */
    const uint8_t *next; /* first byte that is not in `bits` */
    const uint8_t *end;
    int beyond;          /* zero bytes that were read behind the end */
} Bits;

/* Have at least 56 bits. Behind the end come zeros, which are counted. */
INLINE void refill(Bits *b) {
    if (LIKELY(b->end - b->next >= 8)) {
        uint64_t word;
        memcpy(&word, b->next, 8);
        b->bits |= SWAP64(word) >> b->count;
        b->next += (63 - b->count) >> 3;
        b->count |= 56;
        return;
    }
    /* Bits below `count` may be left from a whole word: they are the same bytes. */
    while (b->count <= 56) {
        uint64_t byte = 0;
        if (b->next < b->end) byte = *b->next++;
        else b->beyond++;
        b->bits |= byte << (56 - b->count);
        b->count += 8;
    }
}

INLINE void drop(Bits *b, int n) {
    b->bits <<= n;
    b->count -= n;
}

/* Read 0 to 32 bits. */
INLINE uint32_t take(Bits *b, int n) {
    if (n == 0) return 0;
    if (b->count < n) refill(b);
    uint32_t value = (uint32_t)(b->bits >> (64 - n));
    drop(b, n);
    return value;
}

INLINE int64_t take_signed(Bits *b, int n) {
    if (n == 0) return 0;
    uint64_t value = n > 32 ? (uint64_t)take(b, n - 32) << 32 | take(b, 32) : take(b, n);
    return (int64_t)(value << (64 - n)) >> (64 - n);
}

/* Number of zeros before the next one, which is read too; -1 at the end. */
static int64_t take_unary(Bits *b) {
    int64_t zeros = 0;
    for (;;) {
        if (b->count == 0 || b->bits >> (64 - b->count) == 0) {
            zeros += b->count;
            b->bits = 0;
            b->count = 0;
            refill(b);
            if (b->beyond > 8) return -1;
            continue;
        }
        int n = CLZ64(b->bits);
        drop(b, n);
        drop(b, 1);
        return zeros + n;
    }
}

INLINE int32_t unfold(uint32_t u) { return (int32_t)(u >> 1 ^ (0u - (u & 1))); }

/* One Rice code of any length. */
static int take_rice(Bits *b, int k, int32_t *out) {
    int64_t high = take_unary(b);
    if (high < 0 || high > (int64_t)(0xFFFFFFFFu >> k)) return -1;
    *out = unfold((uint32_t)high << k | take(b, k));
    return 0;
}

/* What is predicted from the four samples before, and the sample to what is left. */
typedef struct {
    uint64_t h1, h2, h3, h4;
    int64_t c1, c2, c3, c4;
    int shift;
} Past;

INLINE uint64_t predict_fixed(const Past *p, int kind) {
    switch (kind) {
    case 0: return 0;
    case 1: return p->h1;
    case 2: return 2 * p->h1 - p->h2;
    case 3: return 3 * (p->h1 - p->h2) + p->h3;
    default: return 4 * (p->h1 + p->h3) - 6 * p->h2 - p->h4;
    }
}

/* 64 bits hold any sum of four products of 33 and 15 bits. What is left is added before the shift, where it does
 * not wait for the newest sample: from one sample to the next there are a product, a sum and a shift. */
INLINE int32_t push(Past *p, int32_t residual, int kind) {
    uint64_t value, left = (uint64_t)(int64_t)residual;
    if (kind < 5) value = predict_fixed(p, kind) + left;
    else {
        uint64_t known = (uint64_t)p->c2 * p->h2 + (left << p->shift);
        if (kind == 5) known += (uint64_t)p->c3 * p->h3 + (uint64_t)p->c4 * p->h4;
        value = (uint64_t)((int64_t)((uint64_t)p->c1 * p->h1 + known) >> p->shift);
    }
    if (kind == 4 || kind == 5) p->h4 = p->h3;
    if (kind >= 3 && kind != 6) p->h3 = p->h2;
    if (kind >= 2) p->h2 = p->h1;
    p->h1 = value;
    return (int32_t)(uint32_t)value;
}

/* Read codes that are short enough, `group` of them (of 56 / group bits at most) for each refill, then one that may
 * be of any length. */
INLINE int rice_run(Bits *bits, Past *past, int k, int n, int32_t *out, int kind, int group) {
    Bits b = *bits;
    Past p = *past;
    int i = 0;
    const int keep = 63 - k, rest = 1 + k, most = 56 / group;
    for (; i + group <= n; i += group) {
        refill(&b);
        for (int j = 0; j < group; j++) {
            int q = CLZ64(b.bits | 1), used = q + rest;
            /* The stop bit and the k bits behind it, moved down. */
            uint64_t low = b.bits << q >> keep;
            if (!LIKELY(used <= most)) {
                i += j;
                goto single;
            }
            b.bits <<= used;
            b.count -= used;
            out[i + j] = push(&p, unfold((uint32_t)low + (((uint32_t)q - 1) << k)), kind);
        }
    }
single:
    if (i < n) {
        int32_t residual;
        if (take_rice(&b, k, &residual)) return -1;
        out[i++] = push(&p, residual, kind);
    }
    *bits = b;
    *past = p;
    return i;
}

/* Read `n` codes of a partition and undo the prediction. */
INLINE int rice_partition(Bits *b, Past *past, int k, int n, int32_t *out, int kind) {
    for (int done = 0; done < n;) {
        int some = k <= 6    ? rice_run(b, past, k, n - done, out + done, kind, 4)
                   : k <= 20 ? rice_run(b, past, k, n - done, out + done, kind, 2)
                             : rice_run(b, past, k, 1, out + done, kind, 2);
        if (some < 0) return -1;
        done += some;
    }
    return 0;
}

#define PARTITION(KIND)                                                                 \
    WIDE static int rice_partition_##KIND(Bits *b, Past *p, int k, int n, int32_t *out) {    \
        return rice_partition(b, p, k, n, out, KIND);                                   \
    }
PARTITION(0)
PARTITION(1)
PARTITION(2)
PARTITION(3)
PARTITION(4)
PARTITION(5)
PARTITION(6)
typedef int (*Partition)(Bits *, Past *, int, int, int32_t *);
static const Partition partitions[] = {
    rice_partition_0, rice_partition_1, rice_partition_2, rice_partition_3,
    rice_partition_4, rice_partition_5, rice_partition_6,
};

INLINE int32_t push_any(Past *p, int32_t residual, int kind) {
    switch (kind) {
    case 0: return push(p, residual, 0);
    case 1: return push(p, residual, 1);
    case 2: return push(p, residual, 2);
    case 3: return push(p, residual, 3);
    case 4: return push(p, residual, 4);
    case 6: return push(p, residual, 6);
    default: return push(p, residual, 5);
    }
}

/* Residuals of a subframe, with the prediction of `kind` undone. */
static const char *read_residual(Bits *b, int blocksize, int order, Past *past, int kind,
                                 int32_t *out) {
    int method = (int)take(b, 2);
    if (method > 1) return "a residual of an unknown coding";
    int width = method ? 5 : 4, escape = method ? 31 : 15;
    int partition_order = (int)take(b, 4);
    if (blocksize & ((1 << partition_order) - 1) || blocksize >> partition_order < order)
        return "a block that does not divide into its partitions";
    int size = blocksize >> partition_order;
    int at = order;
    for (int part = 0; part < 1 << partition_order; part++) {
        int n = part ? size : size - order;
        int k = (int)take(b, width);
        if (k == escape) {
            int width_raw = (int)take(b, 5);
            for (int i = 0; i < n; i++)
                out[at + i] = push_any(past, (int32_t)take_signed(b, width_raw), kind);
        } else if (partitions[kind](b, past, k, n, out + at)) {
            return "a code that runs over the end";
        }
        if (b->beyond > 8) return "a frame that runs over the end";
        at += n;
    }
    return NULL;
}

/* Undo a prediction of any order; unrolled where the order is known. */
INLINE void undo_lpc_order(int32_t *x, int n, int order, const int32_t *coefs, int shift) {
    for (int i = order; i < n; i++) {
        uint64_t sum = 0;
        for (int j = 0; j < order; j++)
            sum += (uint64_t)((int64_t)coefs[j] * (int64_t)x[i - 1 - j]);
        x[i] = (int32_t)((uint32_t)x[i] + (uint32_t)((int64_t)sum >> shift));
    }
}

static void undo_lpc(int32_t *x, int n, int order, const int32_t *coefs, int shift) {
    switch (order) {
    case 5: undo_lpc_order(x, n, 5, coefs, shift); break;
    case 6: undo_lpc_order(x, n, 6, coefs, shift); break;
    case 7: undo_lpc_order(x, n, 7, coefs, shift); break;
    case 8: undo_lpc_order(x, n, 8, coefs, shift); break;
    case 9: undo_lpc_order(x, n, 9, coefs, shift); break;
    case 10: undo_lpc_order(x, n, 10, coefs, shift); break;
    case 11: undo_lpc_order(x, n, 11, coefs, shift); break;
    case 12: undo_lpc_order(x, n, 12, coefs, shift); break;
    default: undo_lpc_order(x, n, order, coefs, shift);
    }
}

static const char *read_subframe(Bits *b, int blocksize, int bits, int32_t *out) {
    int head = (int)take(b, 8);
    if (head & 0x80) return "a subframe without its zero bit";
    int type = head >> 1 & 63, wasted = 0;
    if (head & 1) {
        int64_t more = take_unary(b);
        if (more < 0 || more + 1 >= bits) return "more wasted bits than bits";
        wasted = (int)more + 1;
        bits -= wasted;
    }
    const char *error = NULL;
    if (type == 0) {
        int32_t value = (int32_t)take_signed(b, bits);
        for (int i = 0; i < blocksize; i++) out[i] = value;
    } else if (type == 1) {
        for (int i = 0; i < blocksize; i++) out[i] = (int32_t)take_signed(b, bits);
    } else if (type >= 8 && type <= 12) {
        int order = type - 8;
        Past past = {0};
        if (order > blocksize) return "an order beyond the block";
        for (int i = 0; i < order; i++) {
            out[i] = (int32_t)take_signed(b, bits);
            past.h4 = past.h3, past.h3 = past.h2, past.h2 = past.h1;
            past.h1 = (uint64_t)(int64_t)out[i];
        }
        error = read_residual(b, blocksize, order, &past, order, out);
    } else if (type >= 32) {
        int order = type - 31;
        int32_t coefs[MAX_ORDER] = {0};
        Past past = {0};
        if (order > blocksize) return "an order beyond the block";
        for (int i = 0; i < order; i++) {
            out[i] = (int32_t)take_signed(b, bits);
            past.h4 = past.h3, past.h3 = past.h2, past.h2 = past.h1;
            past.h1 = (uint64_t)(int64_t)out[i];
        }
        int precision = (int)take(b, 4) + 1;
        int shift = (int)take_signed(b, 5);
        if (precision == 16 || shift < 0) return "coefficients of no precision";
        for (int i = 0; i < order; i++) coefs[i] = (int32_t)take_signed(b, precision);
        if (order <= 4) {
            past.c1 = coefs[0], past.c2 = coefs[1], past.c3 = coefs[2], past.c4 = coefs[3];
            past.shift = shift;
            error = read_residual(b, blocksize, order, &past, order <= 2 ? 6 : 5, out);
        } else {
            error = read_residual(b, blocksize, order, &past, 0, out);
            if (!error) undo_lpc(out, blocksize, order, coefs, shift);
        }
    } else {
        return "a subframe of an unknown type";
    }
    if (error) return error;
    if (wasted)
        for (int i = 0; i < blocksize; i++) out[i] = (int32_t)((uint32_t)out[i] << wasted);
    return b->beyond > 8 ? "a frame that runs over the end" : NULL;
}

typedef struct {
    int blocksize, channels, mode; /* mode 0 independent, 8 left/side, 9 side/right, 10 mid/side */
    uint64_t number;
    int is_variable;
    size_t nbytes;
} FrameHead;

/* Parse a frame's header; what stays unsaid is STREAMINFO's. */
static const char *read_frame_head(const uint8_t *p, size_t n, int channels, int bits, FrameHead *head) {
    static const uint8_t widths[8] = {0, 8, 12, 0, 16, 20, 24, 32};
    if (n < 6) return "the end where a frame should begin";
    if (p[0] != 0xFF || (p[1] & 0xFE) != 0xF8) return "no frame where one should begin";
    head->is_variable = p[1] & 1;
    int size_code = p[2] >> 4, rate_code = p[2] & 15, mode = p[3] >> 4, width_code = p[3] >> 1 & 7;
    if (p[3] & 1 || size_code == 0 || rate_code == 15 || mode > 10 || width_code == 3)
        return "a frame's header with reserved codes";
    head->mode = mode >= 8 ? mode : 0;
    head->channels = mode >= 8 ? 2 : mode + 1;
    if (head->channels != channels) return "a frame of another number of channels";
    if (width_code && widths[width_code] != bits) return "a frame of another sample size";
    /* The number is coded as UTF-8 codes a character, up to 36 bits. */
    size_t at = 4;
    int more = 0;
    uint64_t number = p[at++];
    if (number & 0x80) {
        while (number & (0x40u >> more)) more++;
        if (more == 0 || more > 6) return "a frame's number that is none";
        number &= 0x3Fu >> more;
        if (n < at + (size_t)more) return "the end in a frame's header";
        for (int i = 0; i < more; i++) {
            if ((p[at] & 0xC0) != 0x80) return "a frame's number that is none";
            number = number << 6 | (p[at++] & 0x3Fu);
        }
    }
    head->number = number;
    size_t extra = (size_code == 6) + 2 * (size_code == 7) + (rate_code == 12) + 2 * (rate_code == 13 || rate_code == 14);
    if (n < at + extra + 1) return "the end in a frame's header";
    if (size_code == 1) head->blocksize = 192;
    else if (size_code <= 5) head->blocksize = 576 << (size_code - 2);
    else if (size_code == 6) head->blocksize = p[at] + 1;
    else if (size_code == 7) head->blocksize = (p[at] << 8 | p[at + 1]) + 1;
    else head->blocksize = 256 << (size_code - 8);
    at += extra;
    if (head->blocksize > MAX_BLOCKSIZE) return "a block of 65536 samples";
    if (crc8(p, at) != p[at]) return "a frame's header with a wrong CRC";
    head->nbytes = at + 1;
    return NULL;
}

static void undo_stereo(int mode, int n, int32_t *a, int32_t *b) {
    for (int i = 0; i < n; i++) {
        uint32_t x = (uint32_t)a[i], y = (uint32_t)b[i];
        if (mode == 8) b[i] = (int32_t)(x - y);
        else if (mode == 9) a[i] = (int32_t)(x + y);
        else {
            uint32_t sum = x << 1 | (y & 1);
            a[i] = (int32_t)(sum + y) >> 1;
            b[i] = (int32_t)(sum - y) >> 1;
        }
    }
}

/* Where samples go. Whatever their bits are, values have the caller's size, modulo: nothing wide is kept. */
enum { INTERLEAVED, /* as FLAC has them: channels of a sample side by side */
       JOINED,      /* one value, the sum of sample[channel] << bits * channel */
       PLANAR };    /* channels one after another, as long as the output is */

typedef struct {
    uint8_t *data;
    int64_t count; /* samples of a channel */
    int itemsize, layout;
    int (*each)(void *, const int32_t *, int, int, int); /* sees each frame's samples; 0 ends decoding */
    void *context;
} Output;

#define STORE(T) { \
    T *to = (T *)o->data + (o->layout == PLANAR ? at : at * (o->layout == JOINED ? 1 : channels)); \
    if (channels == 1) for (int i = 0; i < n; i++) to[i] = (T)(int64_t)block[i]; \
    else if (o->layout == INTERLEAVED) \
        for (int c = 0; c < channels; c++) \
            for (int i = 0; i < n; i++) to[i * channels + c] = (T)(int64_t)block[c * stride + i]; \
    else if (o->layout == PLANAR) \
        for (int c = 0; c < channels; c++) \
            for (int i = 0; i < n; i++) to[c * o->count + i] = (T)(int64_t)block[c * stride + i]; \
    else for (int c = 0; c < channels; c++) { \
        int shift = bits * c; \
        if (shift >= 8 * (int)sizeof(T)) break; \
        if (c == 0) for (int i = 0; i < n; i++) to[i] = (T)(int64_t)block[i]; \
        else for (int i = 0; i < n; i++) to[i] = (T)(to[i] + ((uint64_t)(int64_t)block[c * stride + i] << shift)); \
    } \
}

/* Samples of a frame, the first of which is number `at`. */
WIDE static void store_samples(const int32_t *block, int n, int channels, int stride, int bits, int64_t at, const Output *o) {
    if (o->itemsize == 1) STORE(uint8_t)
    else if (o->itemsize == 2) STORE(uint16_t)
    else if (o->itemsize == 4) STORE(uint32_t)
    else STORE(uint64_t)
}

/* Decode until `count` samples are there; NULL, or what is wrong. */
static const char *decode_frames(const uint8_t *data, size_t nbytes, int channels, int bits, int max_blocksize,
                                 int is_checked, const Output *out, int32_t *block, int64_t *found) {
    const uint8_t *p = data, *end = data + nbytes;
    int first_blocksize = 0;
    int64_t count = out->count;
    for (int64_t frame = 0; *found < count; frame++) {
        FrameHead head;
        const char *error = read_frame_head(p, (size_t)(end - p), channels, bits, &head);
        if (error) return error;
        if (head.blocksize > max_blocksize) return "a block longer than STREAMINFO says";
        if (frame == 0) first_blocksize = head.blocksize;
        uint64_t expected = head.is_variable ? (uint64_t)*found : (uint64_t)frame;
        if (head.number != expected) return "a frame out of its order";
        if (!head.is_variable && (int64_t)first_blocksize * frame != *found)
            return "a frame of another size in the middle";
        if (head.blocksize > count - *found) return "more samples than there should be";
        if (head.mode && bits == 32) return "unsupported";
        Bits b = {0, 0, p + head.nbytes, end, 0};
        for (int c = 0; c < channels; c++) {
            int side = head.mode == 9 ? c == 0 : head.mode ? c == 1 : 0;
            error = read_subframe(&b, head.blocksize, bits + side, block + (size_t)c * max_blocksize);
            if (error) return error;
        }
        drop(&b, b.count & 7);
        /* The CRC lies behind: what was read may not be beyond the end less its two bytes. */
        int64_t read = (b.next - p) - (b.count >> 3) + b.beyond;
        if (read + 2 > end - p) return "a frame that runs over the end";
        if (!is_checked && crc16(p, (size_t)read) != (p[read] << 8 | p[read + 1])) return "a frame with a wrong CRC";
        if (head.mode) undo_stereo(head.mode, head.blocksize, block, block + max_blocksize);
        if (out->each && !out->each(out->context, block, head.blocksize, channels, max_blocksize)) return "an error";
        store_samples(block, head.blocksize, channels, max_blocksize, bits, *found, out);
        *found += head.blocksize;
        p += read + 2;
    }
    return NULL;
}


/* ---- writing --------------------------------------------------------------------- */

#define MAX_BITS_ENCODED 24
#define MAX_ORDER_ENCODED 12
#define MAX_PARTITIONS 256
#define KS 31 /* Rice parameters that there are */

typedef struct {
    uint64_t bits; /* the lowest `count` are not yet written */
    int count;
    uint8_t *next;
} Writer;

INLINE void put(Writer *w, uint32_t value, int n) { /* n up to 32, value below 2^n */
    w->bits = w->bits << n | value;
    w->count += n;
    if (w->count >= 32) {
        w->count -= 32;
        uint32_t word = (uint32_t)(w->bits >> w->count);
        w->next[0] = (uint8_t)(word >> 24), w->next[1] = (uint8_t)(word >> 16);
        w->next[2] = (uint8_t)(word >> 8), w->next[3] = (uint8_t)word;
        w->next += 4;
    }
}

INLINE void put_signed(Writer *w, int32_t value, int n) {
    put(w, n == 32 ? (uint32_t)value : (uint32_t)value & ((1u << n) - 1), n);
}

static void flush_bits(Writer *w) {
    if (w->count & 7) put(w, 0, 8 - (w->count & 7));
    while (w->count) {
        w->count -= 8;
        *w->next++ = (uint8_t)(w->bits >> w->count);
    }
}

INLINE uint32_t fold(int32_t v) { return (uint32_t)v << 1 ^ (uint32_t)(v >> 31); }

/* How a subframe is written, and what it takes. */
typedef struct {
    int kind;          /* 0 constant, 1 verbatim, 2 fixed, 3 LPC */
    int order, shift, precision;
    int32_t coefs[MAX_ORDER_ENCODED];
    int partition_order, method;
    uint8_t k[MAX_PARTITIONS];
    int64_t bits;
} Choice;

typedef struct {
    int level_max_order; /* of LPC; 0 for none */
    int max_partition_order;
    double penalty; /* share by which an order above 4 must be smaller */
} Setting;

/* Costs of Rice codes are exact: sums of u >> k over partitions add up, so the finest ones
 * give those of all coarser ones. */
WIDE static void rice_sums(const uint32_t *u, int n, int first_k, int ks, uint64_t *sums) {
    for (int t = 0; t < ks; t++) {
        int k = first_k + t;
        uint64_t sum = 0;
        for (int start = 0; start < n; start += 4096) { /* 32 bits hold as many halves */
            uint32_t low = 0, high = 0;
            int stop = n - start < 4096 ? n : start + 4096;
            for (int i = start; i < stop; i++) {
                low += (u[i] >> k) & 0xFFFF;
                high += u[i] >> k >> 16;
            }
            sum += low + ((uint64_t)high << 16);
        }
        sums[t] = sum;
    }
}

/* About the best parameter for n codes of this sum. */
INLINE int rice_centre(uint64_t sum, int n) {
    uint64_t mean = n ? sum / (uint64_t)n : 0;
    return mean ? 63 - CLZ64(mean) : 0;
}

/* Choose partitions and parameters for the folded residuals u[order..n). */
static void choose_rice(const uint32_t *u, int n, int order, int max_partition_order, Choice *c) {
    int top = 0;
    while (top < max_partition_order && !(n >> top & 1) && (n >> (top + 1)) > order && (n >> (top + 1)) >= 16) top++;
    uint64_t sums[MAX_PARTITIONS][KS];
    int parts = 1 << top, size = n >> top, low = 30, high = 0;
    for (int p = 0; p < parts; p++) {
        int start = p ? p * size : order, count = (p + 1) * size - start;
        rice_sums(u + start, count, 0, 1, sums[p]);
        int centre = rice_centre(sums[p][0], count);
        if (centre < low) low = centre;
        if (centre > high) high = centre;
    }
    /* Where a few are large the best parameter lies below what their mean says. */
    int first_k = low > 3 ? low - 3 : 0, ks = (high < 29 ? high + 1 : 30) - first_k + 1;
    for (int p = 0; p < parts; p++) {
        int start = p ? p * size : order;
        rice_sums(u + start, (p + 1) * size - start, first_k, ks, sums[p]);
    }
    c->bits = INT64_MAX;
    for (int porder = top; porder >= 0; porder--) {
        uint8_t chosen[MAX_PARTITIONS];
        int64_t bits = 0;
        int highest = 0;
        parts = 1 << porder, size = n >> porder;
        for (int p = 0; p < parts; p++) {
            int count = p ? size : size - order, best_k = 0;
            int64_t best = INT64_MAX;
            for (int t = 0; t < ks; t++) {
                int64_t cost = (int64_t)count * (1 + first_k + t) + (int64_t)sums[p][t];
                if (cost < best) best = cost, best_k = first_k + t;
            }
            chosen[p] = (uint8_t)best_k;
            if (best_k > highest) highest = best_k;
            bits += best;
        }
        int method = highest > 14;
        bits += 6 + (int64_t)parts * (4 + method);
        if (bits < c->bits) {
            c->bits = bits, c->partition_order = porder, c->method = method;
            memcpy(c->k, chosen, (size_t)parts);
        }
        for (int p = 0; p < parts / 2; p++)
            for (int t = 0; t < ks; t++) sums[p][t] = sums[2 * p][t] + sums[2 * p + 1][t];
    }
}

WIDE static void fixed_sums(const int32_t *x, int n, uint64_t *sums) {
    uint64_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0;
    for (int i = 4; i < n; i++) {
        int32_t a = x[i], b = x[i - 1], c = x[i - 2], d = x[i - 3], e = x[i - 4];
        int32_t r1 = a - b, r2 = a - 2 * b + c, r3 = a - 3 * b + 3 * c - d, r4 = a - 4 * b + 6 * c - 4 * d + e;
        s0 += (uint32_t)(a < 0 ? -a : a), s1 += (uint32_t)(r1 < 0 ? -r1 : r1), s2 += (uint32_t)(r2 < 0 ? -r2 : r2);
        s3 += (uint32_t)(r3 < 0 ? -r3 : r3), s4 += (uint32_t)(r4 < 0 ? -r4 : r4);
    }
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3, sums[4] = s4;
}

WIDE static void fixed_residual(const int32_t *x, int n, int order, uint32_t *u) {
    static const int32_t weights[5][4] = {{0, 0, 0, 0}, {1, 0, 0, 0}, {2, -1, 0, 0}, {3, -3, 1, 0}, {4, -6, 4, -1}};
    const int32_t *w = weights[order];
    int i = order;
    for (; i < 4 && i < n; i++) {
        int32_t prediction = 0;
        for (int j = 0; j < order; j++) prediction += w[j] * x[i - 1 - j];
        u[i] = fold(x[i] - prediction);
    }
    for (; i < n; i++)
        u[i] = fold(x[i] - (w[0] * x[i - 1] + w[1] * x[i - 2] + w[2] * x[i - 3] + w[3] * x[i - 4]));
}

/* Residuals of LPC; -1 where one does not fit 31 bits. */
INLINE int lpc_residual_order(const int32_t *x, int n, int order, const int32_t *coefs, int shift, uint32_t *u, int is_narrow) {
    if (is_narrow) {
        for (int i = order; i < n; i++) {
            int32_t sum = 0;
            for (int j = 0; j < order; j++) sum += coefs[j] * x[i - 1 - j];
            u[i] = fold(x[i] - (sum >> shift));
        }
        return 0;
    }
    int64_t seen = 0;
    for (int i = order; i < n; i++) {
        int64_t sum = 0;
        for (int j = 0; j < order; j++) sum += (int64_t)coefs[j] * x[i - 1 - j];
        int64_t left = x[i] - (sum >> shift);
        seen |= left ^ left >> 63;
        u[i] = fold((int32_t)left);
    }
    return seen >> 30 ? -1 : 0;
}

WIDE static int lpc_residual(const int32_t *x, int n, const Choice *c, int bits, uint32_t *u) {
    int64_t reach = 0;
    for (int j = 0; j < c->order; j++) reach += c->coefs[j] < 0 ? -c->coefs[j] : c->coefs[j];
    int is_narrow = reach << (bits - 1) < 1 << 30;
    switch (c->order) {
#define CASE(N) case N: return lpc_residual_order(x, n, N, c->coefs, c->shift, u, is_narrow);
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#undef CASE
    default: return -1;
    }
}

/* Sums of products of a windowed signal with itself, in lanes of a fixed order, so that
 * every processor gives the same. */
WIDE static void autocorrelate(const float *x, int n, int lags, double *out) {
    for (int lag = 0; lag < lags; lag++) {
        float lanes[16] = {0};
        double sum = 0;
        int i = lag, count = 0;
        for (; i + 16 <= n; i += 16) {
            for (int l = 0; l < 16; l++) lanes[l] += x[i + l] * x[i + l - lag];
            if (++count == 16) {
                for (int l = 0; l < 16; l++) sum += lanes[l], lanes[l] = 0;
                count = 0;
            }
        }
        for (int l = 0; l < 16; l++) sum += lanes[l];
        for (; i < n; i++) sum += (double)x[i] * x[i - lag];
        out[lag] = sum;
    }
}

/* Coefficients of each order up to `orders`, and what they leave; how many orders there are. */
static int levinson(const double *r, int orders, double a[][MAX_ORDER_ENCODED], double *errors) {
    double error = r[0] * (1 + 1e-9), now[MAX_ORDER_ENCODED] = {0};
    for (int m = 0; m < orders; m++) {
        double k = r[m + 1];
        for (int j = 0; j < m; j++) k -= now[j] * r[m - j];
        if (!(error > 0)) return m;
        k /= error;
        double next[MAX_ORDER_ENCODED];
        memcpy(next, now, sizeof next);
        next[m] = k;
        for (int j = 0; j < m; j++) next[j] = now[j] - k * now[m - 1 - j];
        memcpy(now, next, sizeof now);
        error *= 1 - k * k;
        if (!(error > 0)) return m;
        memcpy(a[m], now, sizeof now);
        errors[m] = error;
    }
    return orders;
}

/* Coefficients to integers and a shift; 0 where they are none. */
static int quantize(const double *a, int order, int precision, Choice *c) {
    double largest = 0, rest = 0;
    for (int j = 0; j < order; j++) largest = fmax(largest, fabs(a[j]));
    if (!(largest > 0) || !(largest < 1e6)) return 0;
    int exponent;
    frexp(largest, &exponent);
    int shift = precision - 1 - exponent;
    if (shift > 15) shift = 15;
    if (shift < 0) return 0;
    for (int j = 0; j < order; j++) {
        double exact = ldexp(a[j], shift) + rest, whole = floor(exact + 0.5);
        const double limit = (1 << (precision - 1)) - 1;
        whole = whole > limit ? limit : whole < -limit ? -limit : whole;
        rest = exact - whole;
        c->coefs[j] = (int32_t)whole;
    }
    c->kind = 3, c->order = order, c->shift = shift, c->precision = precision;
    return 1;
}

typedef struct {
    int32_t *x;    /* samples of a channel, without wasted bits */
    uint32_t *u, *best_u;
    float *windowed, *window;
    int window_n;
} Scratch;

static void make_window(Scratch *s, int n) { /* Tukey with half of it flat */
    if (s->window_n == n) return;
    int edge = n / 4;
    for (int i = 0; i < n; i++) s->window[i] = 1;
    for (int i = 0; i < edge; i++)
        s->window[i] = s->window[n - 1 - i] = (float)(0.5 - 0.5 * cos(3.14159265358979 * (i + 1) / (edge + 1)));
    s->window_n = n;
}

/* Have the better of two choices, and its residuals, in best and s->best_u. */
static void offer(Scratch *s, const Choice *offered, double handicap, Choice *best) {
    if ((double)offered->bits * handicap >= (double)best->bits) return;
    *best = *offered;
    uint32_t *u = s->u;
    s->u = s->best_u, s->best_u = u;
}

WIDE static void choose_lpc(Scratch *s, int n, int bits, const Setting *setting, Choice *best) {
    double r[MAX_ORDER_ENCODED + 1], a[MAX_ORDER_ENCODED][MAX_ORDER_ENCODED], errors[MAX_ORDER_ENCODED];
    make_window(s, n);
    for (int i = 0; i < n; i++) s->windowed[i] = (float)s->x[i] * s->window[i];
    autocorrelate(s->windowed, n, setting->level_max_order + 1, r);
    if (!(r[0] > 0)) return;
    int orders = levinson(r, setting->level_max_order, a, errors), precision = bits > 17 ? 15 : 13;
    /* The best order as it would be for a Laplacian of that variance; one above 4 is slow to decode. */
    int picks[2] = {0, 0};
    double costs[2] = {1e300, 1e300};
    for (int m = 0; m < orders; m++) {
        double cost = 0.5 * log2(errors[m] / n + 1e-3) * (n - m - 1) + (m + 1) * (bits + precision);
        int is_high = m >= 4;
        if (cost < costs[is_high]) costs[is_high] = cost, picks[is_high] = m + 1;
    }
    for (int i = 0; i < 2; i++) {
        Choice c = {0};
        if (!picks[i] || (i && !(costs[1] + setting->penalty * (double)best->bits < costs[0]))) continue;
        if (!quantize(a[picks[i] - 1], picks[i], precision, &c) || lpc_residual(s->x, n, &c, bits, s->u)) continue;
        choose_rice(s->u, n, c.order, setting->max_partition_order, &c);
        c.bits += (int64_t)c.order * (bits + precision) + 9;
        offer(s, &c, i ? 1 + setting->penalty : 1, best);
    }
}

/* Choose how to write the n samples in s->x. */
static void choose_subframe(Scratch *s, int n, int bits, const Setting *setting, Choice *best) {
    int is_constant = 1;
    for (int i = 1; i < n && is_constant; i++) is_constant = s->x[i] == s->x[0];
    memset(best, 0, sizeof *best);
    best->bits = bits;
    if (is_constant) return;
    best->kind = 1, best->bits = (int64_t)n * bits;
    if (n <= 4) return;
    uint64_t sums[5];
    fixed_sums(s->x, n, sums);
    int order = 0;
    for (int i = 1; i < 5; i++) if (sums[i] < sums[order]) order = i;
    Choice c = {0};
    c.kind = 2, c.order = order;
    fixed_residual(s->x, n, order, s->u);
    choose_rice(s->u, n, order, setting->max_partition_order, &c);
    c.bits += (int64_t)order * bits;
    offer(s, &c, 1, best);
    if (setting->level_max_order && n > 4 * setting->level_max_order) choose_lpc(s, n, bits, setting, best);
}

WIDE static void put_rice(Writer *to, const uint32_t *u, int n, int k) {
    Writer w = *to;
    const uint32_t mask = (1u << k) - 1, stop = 1u << k;
    for (int i = 0; i < n; i++) {
        uint32_t high = u[i] >> k;
        if (LIKELY(high + 1 + (uint32_t)k <= 32)) {
            put(&w, stop | (u[i] & mask), (int)high + 1 + k);
        } else {
            for (; high >= 32; high -= 32) put(&w, 0, 32);
            put(&w, 0, (int)high);
            put(&w, stop | (u[i] & mask), 1 + k);
        }
    }
    *to = w;
}

static void put_subframe(Writer *w, const Scratch *s, int n, int bits, int wasted, const Choice *c) {
    int type = c->kind < 2 ? c->kind : c->kind == 2 ? 8 + c->order : 31 + c->order;
    put(w, (uint32_t)(type << 1 | (wasted > 0)), 8);
    if (wasted) put(w, 1, wasted);
    if (c->kind == 0) {
        put_signed(w, s->x[0], bits);
        return;
    }
    if (c->kind == 1) {
        for (int i = 0; i < n; i++) put_signed(w, s->x[i], bits);
        return;
    }
    for (int i = 0; i < c->order; i++) put_signed(w, s->x[i], bits);
    if (c->kind == 3) {
        put(w, (uint32_t)c->precision - 1, 4);
        put_signed(w, c->shift, 5);
        for (int j = 0; j < c->order; j++) put_signed(w, c->coefs[j], c->precision);
    }
    put(w, (uint32_t)(c->method << 4 | c->partition_order), 6);
    int size = n >> c->partition_order;
    for (int p = 0; p < 1 << c->partition_order; p++) {
        int start = p ? p * size : c->order;
        put(w, c->k[p], 4 + c->method);
        put_rice(w, s->best_u + start, (p + 1) * size - start, c->k[p]);
    }
}

static uint8_t *put_frame_head(uint8_t *p, uint32_t number, int n, int channels, int bits) {
    uint8_t *start = p;
    static const struct { int n, code; } sizes[] = {{192, 1}, {576, 2}, {1152, 3}, {2304, 4}, {4608, 5}, {256, 8},
        {512, 9}, {1024, 10}, {2048, 11}, {4096, 12}, {8192, 13}, {16384, 14}, {32768, 15}};
    int size_code = n <= 256 ? 6 : 7;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) if (sizes[i].n == n) size_code = sizes[i].code;
    int width_code = bits == 8 ? 1 : bits == 12 ? 2 : bits == 16 ? 4 : bits == 20 ? 5 : bits == 24 ? 6 : 0;
    *p++ = 0xFF, *p++ = 0xF8;
    *p++ = (uint8_t)(size_code << 4 | 9); /* 44.1 kHz, which is short */
    *p++ = (uint8_t)((channels - 1) << 4 | width_code << 1);
    if (number < 0x80) *p++ = (uint8_t)number;
    else {
        int more = 1;
        while (more < 5 && number >> (6 * more + 6 - more)) more++;
        *p++ = (uint8_t)(0xFF00u >> (more + 1) | number >> (6 * more));
        while (more--) *p++ = (uint8_t)(0x80 | (number >> (6 * more) & 0x3F));
    }
    if (size_code == 6) *p++ = (uint8_t)(n - 1);
    if (size_code == 7) *p++ = (uint8_t)((n - 1) >> 8), *p++ = (uint8_t)(n - 1);
    uint8_t crc = crc8(start, (size_t)(p - start));
    *p++ = crc;
    return p;
}

/* Take a channel's samples; the bits that are zero in all of them. */
WIDE static int take_channel(const uint8_t *data, int itemsize, int64_t start, int n, int channel, int channels, int32_t *x) {
    uint32_t any = 0;
    if (itemsize == 1) {
        const int8_t *from = (const int8_t *)data + start * channels + channel;
        for (int i = 0; i < n; i++) any |= (uint32_t)(x[i] = from[(int64_t)i * channels]);
    } else if (itemsize == 2) {
        const int16_t *from = (const int16_t *)data + start * channels + channel;
        if (channels == 1) for (int i = 0; i < n; i++) any |= (uint32_t)(x[i] = from[i]);
        else for (int i = 0; i < n; i++) any |= (uint32_t)(x[i] = from[(int64_t)i * channels]);
    } else {
        const int32_t *from = (const int32_t *)data + start * channels + channel;
        for (int i = 0; i < n; i++) any |= (uint32_t)(x[i] = from[(int64_t)i * channels]);
    }
    int wasted = any ? CTZ64(any) : 0;
    if (wasted) for (int i = 0; i < n; i++) x[i] >>= wasted;
    return wasted;
}

/* Whether every sample fits `bits`. */
WIDE static int fits(const uint8_t *data, int itemsize, int64_t n, int bits) {
    uint32_t any = 0;
    if (itemsize == 1) for (int64_t i = 0; i < n; i++) { int32_t v = ((const int8_t *)data)[i]; any |= (uint32_t)(v ^ v >> 31); }
    else if (itemsize == 2) for (int64_t i = 0; i < n; i++) { int32_t v = ((const int16_t *)data)[i]; any |= (uint32_t)(v ^ v >> 31); }
    else for (int64_t i = 0; i < n; i++) { int32_t v = ((const int32_t *)data)[i]; any |= (uint32_t)(v ^ v >> 31); }
    return any >> (bits - 1) == 0;
}

/* Encode all frames to `out` (or only count, where it is NULL); bytes written, smallest and largest frame. */
static int64_t encode_frames(const uint8_t *data, int itemsize, int64_t count, int channels, int bits, int blocksize,
                             const Setting *setting, Scratch *s, uint8_t *out, int64_t *smallest, int64_t *largest) {
    int64_t total = 0;
    *smallest = INT64_MAX, *largest = 0;
    for (int64_t at = 0, number = 0; at < count; at += blocksize, number++) {
        int n = (int)(count - at < blocksize ? count - at : blocksize);
        int64_t nbytes, size_bits = 0;
        uint8_t head[24], *start = out ? out + total : head;
        uint8_t *behind = put_frame_head(start, (uint32_t)number, n, channels, bits);
        Writer w = {0, 0, behind};
        for (int c = 0; c < channels; c++) {
            Choice best;
            int wasted = take_channel(data, itemsize, at, n, c, channels, s->x);
            choose_subframe(s, n, bits - wasted, setting, &best);
            if (out) put_subframe(&w, s, n, bits - wasted, wasted, &best);
            size_bits += 8 + wasted + best.bits;
        }
        if (out) {
            flush_bits(&w);
            uint16_t crc = crc16(start, (size_t)(w.next - start));
            w.next[0] = (uint8_t)(crc >> 8), w.next[1] = (uint8_t)crc;
            nbytes = w.next + 2 - start;
        } else {
            nbytes = (behind - start) + (size_bits + 7) / 8 + 2;
        }
        if (nbytes < *smallest) *smallest = nbytes;
        if (nbytes > *largest) *largest = nbytes;
        total += nbytes;
    }
    return total;
}

/* ---- rows ------------------------------------------------------------------------- */

/* A row from the rows above and below it and its residuals, and back (docs/format.md,
 * section 4.5). T is the values' type, S the type whose shift the format prescribes, in
 * which 1-2-1 is computed. All arithmetic is modulo 2^bits. */
#define ROW_KERNELS(NAME, T, S, U)                                                      \
    INLINE T NAME##_lift(T a, T b) { return (T)((T)(a & b) + (T)((T)(a ^ b) >> 1)); }   \
    INLINE U NAME##_pair(T a, T b) { return (U)((U)(S)a + (U)(S)b); }                   \
    INLINE T NAME##_one_two_one(U l, U m, U r) { return (T)((S)(U)(l + 2 * m + r + 4) >> 3); } \
    /* Predict from a and b (kind 2 lift, 3 smooth), or from a alone (1) or nothing (0). */ \
    INLINE void NAME##_predict(int kind, const T *a, const T *b, int64_t n, T *p) {     \
        if (kind == 0) memset(p, 0, (size_t)n * sizeof(T));                             \
        else if (kind == 1) memcpy(p, a, (size_t)n * sizeof(T));                        \
        else if (kind == 2) for (int64_t c = 0; c < n; c++) p[c] = NAME##_lift(a[c], b[c]); \
        else {                                                                          \
            int64_t e = n - 1, f = e ? e - 1 : 0, one = e ? 1 : 0;                      \
            U m = NAME##_pair(a[0], b[0]), r = NAME##_pair(a[one], b[one]);             \
            p[0] = NAME##_one_two_one(m, m, r);                                         \
            for (int64_t c = 1; c < e; c++)                                             \
                p[c] = NAME##_one_two_one(NAME##_pair(a[c - 1], b[c - 1]), NAME##_pair(a[c], b[c]), \
                                          NAME##_pair(a[c + 1], b[c + 1]));             \
            m = NAME##_pair(a[e], b[e]), r = NAME##_pair(a[f], b[f]);                   \
            if (e) p[e] = NAME##_one_two_one(r, m, m);                                  \
            else p[0] = NAME##_one_two_one(m, m, m);                                    \
        }                                                                               \
    }                                                                                   \
    WIDE static void NAME##_undo(int kind, const void *a, const void *b, const void *left, int64_t n, void *to) { \
        const T *res = left;                                                            \
        T *out = to;                                                                    \
        T p[CHUNK];                                                                     \
        if (kind < 3) {                                                                 \
            for (int64_t at = 0; at < n; at += CHUNK) {                                 \
                int64_t some = n - at < CHUNK ? n - at : CHUNK;                         \
                NAME##_predict(kind, (const T *)a + at, (const T *)b + at, some, p);    \
                for (int64_t c = 0; c < some; c++) out[at + c] = (T)((U)p[c] + (U)res[at + c]); \
            }                                                                           \
            return;                                                                     \
        }                                                                               \
        NAME##_predict(3, a, b, n, out);                                                \
        for (int64_t c = 0; c < n; c++) out[c] = (T)((U)out[c] + (U)res[c]);            \
    }                                                                                   \
    /* Residuals of a row; where `valid` is 0 that is 0, and the value its prediction. */ \
    WIDE static void NAME##_residual(int kind, const void *a, const void *b, const uint8_t *valid, int64_t n, \
                                     void *value, void *to) {                           \
        T *v = value, *out = to;                                                        \
        NAME##_predict(kind, a, b, n, out);                                             \
        if (!valid) {                                                                   \
            for (int64_t c = 0; c < n; c++) out[c] = (T)((U)v[c] - (U)out[c]);          \
            return;                                                                     \
        }                                                                               \
        for (int64_t c = 0; c < n; c++) {                                               \
            T p = out[c];                                                               \
            out[c] = valid[c] ? (T)((U)v[c] - (U)p) : 0;                                \
            v[c] = valid[c] ? v[c] : p;                                                 \
        }                                                                               \
    }

#define CHUNK 1024
ROW_KERNELS(u1, uint8_t, int16_t, uint16_t)
ROW_KERNELS(i1, int8_t, int16_t, uint16_t)
ROW_KERNELS(u2, uint16_t, uint16_t, uint16_t)
ROW_KERNELS(i2, int16_t, int16_t, uint16_t)
ROW_KERNELS(u4, uint32_t, uint32_t, uint32_t)
ROW_KERNELS(i4, int32_t, int32_t, uint32_t)
ROW_KERNELS(u8, uint64_t, uint64_t, uint64_t)
ROW_KERNELS(i8, int64_t, int64_t, uint64_t)

typedef void (*UndoRow)(int, const void *, const void *, const void *, int64_t, void *);
typedef void (*ResidualRow)(int, const void *, const void *, const uint8_t *, int64_t, void *, void *);
static const UndoRow undo_row[4][2] = {{u1_undo, i1_undo}, {u2_undo, i2_undo}, {u4_undo, i4_undo}, {u8_undo, i8_undo}};
static const ResidualRow residual_row[4][2] = {{u1_residual, i1_residual}, {u2_residual, i2_residual},
                                               {u4_residual, i4_residual}, {u8_residual, i8_residual}};

#define STRIDE 64

/* Rows of a plane in stored order: which one, and what it is predicted from. */
typedef struct {
    int64_t height;
    int predictor; /* 0 none, 1 up, 2 lift, 3 smooth */
    int64_t row, step; /* step 0: the base rows */
} RowOrder;

/* The kind of prediction of the present row, and the rows above and below (-1: none). */
INLINE int row_kind(const RowOrder *o, int64_t *above, int64_t *below) {
    *above = *below = -1;
    if (o->predictor == 0) return 0;
    if (o->step == 0) {
        *above = o->predictor == 1 ? o->row - 1 : o->row - STRIDE;
        return *above >= 0;
    }
    *above = o->row - o->step;
    *below = o->row + o->step < o->height ? o->row + o->step : *above;
    return o->predictor;
}

INLINE void next_row(RowOrder *o) {
    if (o->predictor < 2) {
        o->row++;
        return;
    }
    o->row += o->step ? 2 * o->step : STRIDE;
    while (o->row >= o->height) {
        o->step = o->step ? o->step / 2 : STRIDE / 2;
        if (o->step == 0) return;
        o->row = o->step;
    }
}

static int size_index(int itemsize) { return itemsize == 1 ? 0 : itemsize == 2 ? 1 : itemsize == 4 ? 2 : itemsize == 8 ? 3 : -1; }

typedef struct {
    uint8_t *values; /* planes x height x width; pixels of a row lie side by side */
    int64_t planes, height, width, plane_stride, row_stride;
    int itemsize, is_signed, predictor;
} Rows;

static void undo_rows(const Rows *r, const uint8_t *residual) {
    UndoRow undo = undo_row[size_index(r->itemsize)][r->is_signed];
    int64_t stride = r->row_stride;
    for (int64_t plane = 0; plane < r->planes; plane++) {
        uint8_t *values = r->values + plane * r->plane_stride;
        RowOrder o = {r->height, r->predictor, 0, 0};
        for (int64_t i = 0; i < r->height; i++, residual += r->width * r->itemsize, next_row(&o)) {
            int64_t above, below;
            int kind = row_kind(&o, &above, &below);
            undo(kind, values + (above < 0 ? 0 : above) * stride, values + (below < 0 ? 0 : below) * stride, residual,
                 r->width, values + o.row * stride);
        }
    }
}

static void predict_rows(const Rows *r, const uint8_t *valid, uint8_t *residual) {
    ResidualRow predict = residual_row[size_index(r->itemsize)][r->is_signed];
    int64_t stride = r->row_stride;
    for (int64_t plane = 0; plane < r->planes; plane++) {
        uint8_t *values = r->values + plane * r->plane_stride;
        RowOrder o = {r->height, r->predictor, 0, 0};
        for (int64_t i = 0; i < r->height; i++, residual += r->width * r->itemsize, next_row(&o)) {
            int64_t above, below;
            int kind = row_kind(&o, &above, &below);
            predict(kind, values + (above < 0 ? 0 : above) * stride, values + (below < 0 ? 0 : below) * stride,
                    valid ? valid + (plane * r->height + o.row) * r->width : NULL, r->width,
                    values + o.row * stride, residual);
        }
    }
}

/* ---- Python ---------------------------------------------------------------------- */

/* Take the shape of an array (plane, row, col), C order but for the distance of rows and planes. */
static int take_rows(PyObject *array, int flags, int is_signed, int predictor, Py_buffer *view, Rows *r) {
    if (PyObject_GetBuffer(array, view, PyBUF_STRIDES | flags)) return 0;
    if (view->ndim == 3 && view->shape[1] >= 1 && view->shape[2] >= 1 && size_index((int)view->itemsize) >= 0 &&
        (view->strides[2] == view->itemsize || view->shape[2] == 1) && predictor >= 0 && predictor <= 3) {
        r->values = view->buf, r->planes = view->shape[0], r->height = view->shape[1], r->width = view->shape[2];
        r->plane_stride = view->strides[0], r->row_stride = view->strides[1], r->itemsize = (int)view->itemsize;
        r->is_signed = is_signed, r->predictor = predictor;
        return 1;
    }
    PyErr_SetString(PyExc_ValueError, "rows: shape, strides or predictor out of range");
    PyBuffer_Release(view);
    return 0;
}

/* undo_rows(residual, values, is_signed, predictor) */
static PyObject *py_undo_rows(PyObject *self, PyObject *args) {
    Py_buffer residual, values;
    PyObject *array;
    int is_signed, predictor;
    Rows r;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*Opi", &residual, &array, &is_signed, &predictor)) return NULL;
    if (!take_rows(array, PyBUF_WRITABLE, is_signed, predictor, &values, &r)) {
        PyBuffer_Release(&residual);
        return NULL;
    }
    int is_sane = residual.len == values.len;
    if (is_sane) {
        Py_BEGIN_ALLOW_THREADS
        undo_rows(&r, residual.buf);
        Py_END_ALLOW_THREADS
    } else PyErr_SetString(PyExc_ValueError, "rows: residuals and values have other sizes");
    PyBuffer_Release(&residual);
    PyBuffer_Release(&values);
    if (!is_sane) return NULL;
    Py_RETURN_NONE;
}

/* predict_rows(values, residual, valid or None, is_signed, predictor); values change where they are not valid */
static PyObject *py_predict_rows(PyObject *self, PyObject *args) {
    Py_buffer residual, values, valid;
    PyObject *array;
    int is_signed, predictor;
    Rows r;
    (void)self;
    if (!PyArg_ParseTuple(args, "Ow*z*pi", &array, &residual, &valid, &is_signed, &predictor)) return NULL;
    if (!take_rows(array, valid.buf ? PyBUF_WRITABLE : PyBUF_SIMPLE, is_signed, predictor, &values, &r)) {
        PyBuffer_Release(&residual);
        PyBuffer_Release(&valid);
        return NULL;
    }
    int is_sane = residual.len == values.len && (!valid.buf || valid.len * r.itemsize == values.len);
    if (is_sane) {
        Py_BEGIN_ALLOW_THREADS
        predict_rows(&r, valid.buf, residual.buf);
        Py_END_ALLOW_THREADS
    } else PyErr_SetString(PyExc_ValueError, "rows: residuals, mask and values have other sizes");
    PyBuffer_Release(&residual);
    PyBuffer_Release(&values);
    PyBuffer_Release(&valid);
    if (!is_sane) return NULL;
    Py_RETURN_NONE;
}

/* What the MD5 of a stream is made of: samples side by side, in as few whole bytes as hold their bits. */
typedef struct {
    PyObject *update;
    int nbytes;
} Digest;

static int update_digest(void *context, const int32_t *block, int n, int channels, int stride) {
    const Digest *digest = context;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = NULL, *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n * channels * digest->nbytes);
    if (bytes) {
        uint8_t *to = (uint8_t *)PyBytes_AsString(bytes);
        for (int i = 0; i < n; i++)
            for (int c = 0; c < channels; c++)
                for (int k = 0; k < digest->nbytes; k++) *to++ = (uint8_t)((uint32_t)block[c * stride + i] >> 8 * k);
        result = PyObject_CallFunctionObjArgs(digest->update, bytes, NULL);
    }
    int is_done = result != NULL;
    Py_XDECREF(result);
    Py_XDECREF(bytes);
    PyGILState_Release(state);
    return is_done;
}

/* decode(frames, out, itemsize, channels, bits, max_blocksize, is_checked, layout, update or None) -> (found, error) */
static PyObject *py_decode(PyObject *self, PyObject *args) {
    Py_buffer data, out;
    int channels, bits, max_blocksize, is_checked;
    Digest digest;
    Output o = {0};
    (void)self;
    if (!PyArg_ParseTuple(args, "y*w*iiiipiO", &data, &out, &o.itemsize, &channels, &bits, &max_blocksize, &is_checked,
                          &o.layout, &digest.update)) return NULL;
    PyObject *result = NULL;
    const char *error = NULL;
    int64_t found = 0;
    int32_t *block = NULL;
    int per_sample = (o.layout == JOINED ? 1 : channels) * o.itemsize;
    if (channels < 1 || channels > MAX_CHANNELS || bits < 4 || bits > 32 || size_index(o.itemsize) < 0 ||
        o.layout < INTERLEAVED || o.layout > PLANAR || (o.layout == INTERLEAVED && bits > 8 * o.itemsize) ||
        max_blocksize < 1 || max_blocksize > MAX_BLOCKSIZE || out.len % per_sample) {
        PyErr_SetString(PyExc_ValueError, "decode: channels, bits, layout or sizes out of range");
        goto done;
    }
    block = malloc(sizeof(int32_t) * (size_t)max_blocksize * (size_t)channels);
    if (!block) { PyErr_NoMemory(); goto done; }
    o.data = out.buf, o.count = out.len / per_sample;
    digest.nbytes = (bits + 7) / 8;
    if (digest.update != Py_None) o.each = update_digest, o.context = &digest;
    Py_BEGIN_ALLOW_THREADS
    error = decode_frames(data.buf, (size_t)data.len, channels, bits, max_blocksize, is_checked, &o, block, &found);
    Py_END_ALLOW_THREADS
    if (!PyErr_Occurred()) result = Py_BuildValue("Lz", (long long)found, error);
done:
    free(block);
    PyBuffer_Release(&data);
    PyBuffer_Release(&out);
    return result;
}

/* encode(samples, itemsize, channels, bits, blocksize, level), or only count the bytes */
static PyObject *encode_or_count(PyObject *args, int is_counted) {
    static const Setting settings[] = {{0, 4, 0}, {4, 5, 0}, {8, 6, 0.015}, {12, 8, 0}};
    Py_buffer data;
    int itemsize, channels, bits, blocksize, level;
    if (!PyArg_ParseTuple(args, "y*iiiii", &data, &itemsize, &channels, &bits, &blocksize, &level)) return NULL;
    PyObject *result = NULL, *bytes = NULL;
    uint8_t *out = NULL;
    Scratch s = {0};
    if (channels < 1 || channels > MAX_CHANNELS || bits < 4 || bits > MAX_BITS_ENCODED || blocksize < 16 ||
        blocksize > MAX_BLOCKSIZE || (itemsize != 1 && itemsize != 2 && itemsize != 4) || level < 0 || level > 3 ||
        data.len == 0 || data.len % (itemsize * channels)) {
        PyErr_SetString(PyExc_ValueError, "encode: channels, bits, sizes or level out of range");
        goto done;
    }
    int64_t count = data.len / (itemsize * channels), smallest, largest, nbytes = 0;
    int is_fit;
    /* Nothing takes more than verbatim does. */
    int64_t frames = (count + blocksize - 1) / blocksize;
    int64_t bound = count * channels * bits / 8 + frames * (32 + 4 * channels) + 64;
    size_t n = (size_t)blocksize;
    s.x = malloc(4 * n * 5);
    if (!is_counted) out = malloc((size_t)bound);
    if (!s.x || (!is_counted && !out)) { PyErr_NoMemory(); goto done; }
    s.u = (uint32_t *)s.x + n, s.best_u = s.u + n, s.windowed = (float *)(s.best_u + n), s.window = s.windowed + n;
    Py_BEGIN_ALLOW_THREADS
    is_fit = fits(data.buf, itemsize, count * channels, bits);
    if (is_fit)
        nbytes = encode_frames(data.buf, itemsize, count, channels, bits, blocksize, settings + level, &s, out, &smallest, &largest);
    Py_END_ALLOW_THREADS
    if (!is_fit) {
        PyErr_Format(PyExc_ValueError, "encode: samples of more than %d bits", bits);
        goto done;
    }
    if (is_counted) result = PyLong_FromLongLong(nbytes);
    else {
        bytes = PyBytes_FromStringAndSize((const char *)out, (Py_ssize_t)nbytes);
        if (bytes) result = Py_BuildValue("NLL", bytes, (long long)smallest, (long long)largest);
    }
done:
    free(s.x);
    free(out);
    PyBuffer_Release(&data);
    return result;
}

static PyObject *py_encode(PyObject *self, PyObject *args) {
    (void)self;
    return encode_or_count(args, 0);
}

static PyObject *py_count(PyObject *self, PyObject *args) {
    (void)self;
    return encode_or_count(args, 1);
}

static PyMethodDef methods[] = {
    {"undo_rows", py_undo_rows, METH_VARARGS, "undo_rows(residual, values, is_signed, predictor)"},
    {"predict_rows", py_predict_rows, METH_VARARGS, "predict_rows(values, residual, valid, is_signed, predictor)"},
    {"encode", py_encode, METH_VARARGS, "encode(samples, itemsize, channels, bits, blocksize, level) -> (frames, smallest, largest)"},
    {"count", py_count, METH_VARARGS, "count(samples, itemsize, channels, bits, blocksize, level) -> nbytes"},
    {"decode", py_decode, METH_VARARGS, "decode(frames, out, itemsize, channels, bits, max_blocksize, is_checked, layout, update or None) -> (found, error)"},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_flac", "FLAC frames.", 0, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__flac(void) {
    make_crc_tables();
    return PyModule_Create(&module);
}
