/* Regularly nested numbers in JSON → one row-major buffer, in one pass over the text.
 *
 * What numbers.py does with simdjson, without the detour over a tape: brackets, commas and numbers are read once and
 * each number goes where it belongs. A number is the one that Python's float() gives, to the last bit: digits that fit
 * into 64 bits are scaled by an exact power of ten with 64 bits of precision, and where that does not settle the
 * rounding (and for everything unusual) Python's own reader decides.
 *
 * Whatever is not regular, or not JSON, is answered with None: the general way finds the words for it.
 */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <float.h>
#include <stdint.h>
#include <string.h>

/* Numpy's own limit. */
#define MOST_DIMENSIONS 64
/* A longer number is left to the general way. */
#define LONGEST_NUMBER 63
/* So many digits always fit into 64 bits. */
#define MOST_DIGITS 19

typedef struct {
    const char *at;
    const char *end;
    Py_ssize_t lengths[MOST_DIMENSIONS];
    int dimensions;
    int is_double;
    char *out;
} Reader;

/* Exact doubles. */
static const double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
#define LARGEST_POWER 22

/* digits · 10^power in *value; 0 where this cannot tell how it is rounded. */
static inline int scale(uint64_t digits, int power, double *value)
{
    int size = power < 0 ? -power : power;
    if (size > LARGEST_POWER)
        return 0;
    if (digits <= (UINT64_C(1) << 53)) {
        /* Both are exact, so the one operation rounds correctly. */
        double exact = (double)digits;
        *value = power < 0 ? exact / POWERS[size] : exact * POWERS[size];
        return 1;
    }
#if LDBL_MANT_DIG == 64
    {
        /* Rounds twice, to 64 bits and to 53: wrong only if the first ends in the middle between two doubles. */
        long double wide = (long double)digits;
        uint64_t mantissa;
        wide = power < 0 ? wide / POWERS[size] : wide * POWERS[size];
        memcpy(&mantissa, &wide, sizeof mantissa);
        *value = (double)wide;
        return (mantissa & 0x7FF) != 0x400;
    }
#else
    return 0;
#endif
}

static inline void skip_space(Reader *reader)
{
    while (reader->at < reader->end &&
           (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\r' || *reader->at == '\t'))
        reader->at++;
}

/* Whether this character comes next; it is read then. */
static inline int takes(Reader *reader, char wanted)
{
    if (reader->at < reader->end && *reader->at == wanted) {
        reader->at++;
        return 1;
    }
    skip_space(reader);
    if (reader->at == reader->end || *reader->at != wanted)
        return 0;
    reader->at++;
    return 1;
}

static inline int is_digit(const Reader *reader, const char *at)
{
    return at < reader->end && (unsigned char)(*at - '0') < 10;
}

/* The digits from here on, after those in *digits; where they end. What does not fit into 64 bits is lost. */
static inline const char *take_digits(const Reader *reader, const char *at, uint64_t *digits)
{
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    static const uint64_t tens[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    /* Eight characters at once, without a branch for each. */
    while (reader->end - at >= 8) {
        uint64_t text, others;
        int count;
        memcpy(&text, at, sizeof text);
        text ^= UINT64_C(0x3030303030303030);
        others = ((text + UINT64_C(0x7676767676767676)) | text) & UINT64_C(0x8080808080808080);
        count = others ? __builtin_ctzll(others) / 8 : 8;
        if (count == 0)
            return at;
        /* Zeros in front, then two, four and eight digits are put together. */
        text <<= (8 - count) * 8;
        text = text * 10 + (text >> 8);
        text = ((text & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x000F424000000064) +
                ((text >> 16) & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x0000271000000001)) >>
               32;
        *digits = *digits * tens[count] + (uint32_t)text;
        at += count;
        if (count < 8)
            return at;
    }
#endif
    while (is_digit(reader, at))
        *digits = *digits * 10 + (uint64_t)(*at++ - '0');
    return at;
}

/* Python's own reader; 0 for what is not finite. */
static int read_slowly(const char *begin, const char *end, double *value)
{
    char text[LONGEST_NUMBER + 1];
    if (end - begin > LONGEST_NUMBER)
        return 0;
    memcpy(text, begin, (size_t)(end - begin));
    text[end - begin] = '\0';
    *value = PyOS_string_to_double(text, NULL, NULL);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return *value - *value == 0.0;
}

/* One number by JSON's grammar; 0 for what is none, and for what the general way must look at. */
static inline int read_number(Reader *reader, double *value)
{
    const char *begin, *first, *at;
    uint64_t digits = 0;
    Py_ssize_t count;
    int power = 0, is_negative;

    skip_space(reader);
    at = begin = reader->at;
    is_negative = at < reader->end && *at == '-';
    first = at += is_negative;
    /* Mostly one. */
    while (is_digit(reader, at))
        digits = digits * 10 + (uint64_t)(*at++ - '0');
    count = at - first;
    if (count == 0 || (*first == '0' && count > 1))
        return 0;
    if (at == reader->end || (*at != '.' && (*at | 0x20) != 'e')) {
        reader->at = at;
        *value = is_negative ? (double)-(int64_t)digits : (double)digits;
        /* The general way takes or refuses larger ones. */
        return count <= MOST_DIGITS && digits <= INT64_MAX;
    }
    if (*at == '.') {
        const char *fraction = ++at;
        at = take_digits(reader, at, &digits);
        if (at == fraction || at - begin > LONGEST_NUMBER)
            return 0;
        power = -(int)(at - fraction);
        count += at - fraction;
        if (*first == '0') {
            /* Zeros in front take no room. */
            count--;
            while (fraction < at && *fraction == '0') {
                fraction++;
                count--;
            }
        }
    }
    if (at < reader->end && (*at | 0x20) == 'e') {
        int exponent = 0, falls;
        const char *shown;
        at++;
        falls = at < reader->end && *at == '-';
        at += at < reader->end && (*at == '-' || *at == '+');
        for (shown = at; is_digit(reader, at) && at - shown < 4; at++)
            exponent = exponent * 10 + (*at - '0');
        if (at == shown || is_digit(reader, at))
            return 0;
        power += falls ? -exponent : exponent;
    }
    reader->at = at;
    if (count <= MOST_DIGITS) {
        int is_settled = 1;
        if (digits == 0)
            *value = 0.0;
        else
            is_settled = scale(digits, power, value);
        if (is_settled) {
            if (is_negative)
                *value = -*value;
            return 1;
        }
    }
    return read_slowly(begin, at, value);
}

/* So many numbers in a row, with what stands between and behind them. */
static inline int read_numbers(Reader *reader, Py_ssize_t left, char last)
{
    for (; left > 0; left--) {
        double value;
        if (!read_number(reader, &value))
            return 0;
        if (reader->is_double) {
            memcpy(reader->out, &value, sizeof value);
            reader->out += sizeof value;
        } else {
            float narrow = (float)value;
            memcpy(reader->out, &narrow, sizeof narrow);
            reader->out += sizeof narrow;
        }
        if ((left > 1 || last) && !takes(reader, left > 1 ? ',' : last))
            return 0;
    }
    return 1;
}

/* One list of the nesting from this dimension on. */
static int read_list(Reader *reader, int dimension)
{
    Py_ssize_t left = reader->lengths[dimension];
    if (!takes(reader, '['))
        return 0;
    if (dimension == reader->dimensions - 1)
        return read_numbers(reader, left, ']');
    for (; left > 0; left--)
        if (!read_list(reader, dimension + 1) || !takes(reader, left > 1 ? ',' : ']'))
            return 0;
    return 1;
}

static int read_row(Reader *reader)
{
    return reader->dimensions > 0 ? read_list(reader, 0) : read_numbers(reader, 1, 0);
}

/* All rows of a batch into a buffer that grows with them; -1 with an exception. */
static int read_batch(Reader *reader, char **buffer, Py_ssize_t row_size)
{
    Py_ssize_t room = 1, rows = 0;
    const char *first;
    if (!takes(reader, '['))
        return 0;
    first = reader->at;
    do {
        if (rows == room) {
            /* As many as the rest of the text would hold of the length of those before, and a few. */
            Py_ssize_t expected = rows + (reader->end - reader->at) / ((reader->at - first) / rows + 1);
            char *larger = NULL;
            room = expected + expected / 16 + 1;
            if (room <= PY_SSIZE_T_MAX / row_size)
                larger = PyMem_Realloc(*buffer, (size_t)(room * row_size));
            if (larger == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            *buffer = larger;
            reader->out = larger + rows * row_size;
        }
        if (!read_row(reader))
            return 0;
        rows++;
    } while (takes(reader, ','));
    return takes(reader, ']');
}

PyDoc_STRVAR(read_doc,
             "read(text, start, end, sample, is_batch, is_double)\n--\n\n"
             "The numbers of text[start:end] as native floats, row-major; None if they are not regular.\n\n"
             "sample: the lengths of one row's dimensions, all at least 1; is_batch: whether there is a list of rows.");

static PyObject *read_regular(PyObject *module, PyObject *args)
{
    Py_buffer text;
    Py_ssize_t start, end, row_size, dimension;
    PyObject *sample, *bytes = NULL;
    char *buffer = NULL;
    Reader reader;
    int is_batch, found = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nnOpp", &text, &start, &end, &sample, &is_batch, &reader.is_double))
        return NULL;
    reader.dimensions = PyTuple_Check(sample) ? (int)PyTuple_Size(sample) : -1;
    if (reader.dimensions < 0 || reader.dimensions > MOST_DIMENSIONS || start < 0 || end > text.len ||
        start > end) {
        PyErr_SetString(PyExc_ValueError, "the sample is no shape, or the text is shorter");
        goto done;
    }
    row_size = reader.is_double ? sizeof(double) : sizeof(float);
    for (dimension = 0; dimension < reader.dimensions; dimension++) {
        Py_ssize_t length = PyLong_AsSsize_t(PyTuple_GetItem(sample, dimension));
        if (length < 1 || length > PY_SSIZE_T_MAX / row_size) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "a length below 1, or too many numbers");
            goto done;
        }
        reader.lengths[dimension] = length;
        row_size *= length;
    }
    /* A number and what follows it take two characters: less text holds no row, and nothing is set aside for one. */
    if ((end - start) / 2 + 1 < row_size / (reader.is_double ? 8 : 4))
        goto done;
    reader.at = (const char *)text.buf + start;
    reader.end = (const char *)text.buf + end;
    reader.out = buffer = PyMem_Malloc((size_t)row_size);
    if (buffer == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    found = is_batch ? read_batch(&reader, &buffer, row_size) : read_row(&reader);
    if (found > 0) {
        skip_space(&reader);
        if (reader.at == reader.end)
            bytes = PyBytes_FromStringAndSize(buffer, reader.out - buffer);
    }
done:
    PyMem_Free(buffer);
    PyBuffer_Release(&text);
    if (bytes != NULL || PyErr_Occurred())
        return bytes;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"read", read_regular, METH_VARARGS, read_doc}, {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_regular",
    .m_doc = "Regularly nested numbers in JSON, quickly.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__regular(void)
{
    return PyModuleDef_Init(&definition);
}
