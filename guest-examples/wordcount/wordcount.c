/* Counts lines, words and bytes of the input: a job in C without a C library.
 *
 * wordcount.wasm is committed, because midge.toml may also name modules that are already built. It was made by
 *
 *   clang --target=wasm32 -std=c17 -Wall -Wextra -O2 -ffreestanding -nostdlib -Wl,--no-entry -Wl,--strip-all \
 *     -o wordcount.wasm wordcount.c
 */

#include <stddef.h>
#include <stdint.h>

/* The three functions of WASI that it needs. */
#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))

typedef struct {
    char *address;
    uint32_t length;
} room; /* to read into */

typedef struct {
    const char *address;
    uint32_t length;
} piece; /* to write from */

WASI("fd_read") extern uint16_t fd_read(uint32_t fd, const room *rooms, uint32_t count, uint32_t *done);
WASI("fd_write") extern uint16_t fd_write(uint32_t fd, const piece *pieces, uint32_t count, uint32_t *done);
WASI("proc_exit") extern _Noreturn void proc_exit(uint32_t code);

enum { STDIN = 0, STDOUT = 1, STDERR = 2 };
enum { EX_TEMPFAIL = 75 };

/* A read that fills this takes one call to the host. */
static char buffer[64 * 1024];

static void write_all(uint32_t fd, const char *text, uint32_t length) {
    while (length > 0) {
        const piece rest = {text, length};
        uint32_t done = 0;
        if (fd_write(fd, &rest, 1, &done) != 0 || done == 0) {
            proc_exit(EX_TEMPFAIL);
        }
        text += done;
        length -= done;
    }
}

static void write_text(uint32_t fd, const char *text) {
    uint32_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    write_all(fd, text, length);
}

static void write_number(uint32_t fd, uint64_t number) {
    char digits[20]; /* of the largest uint64_t */
    size_t first = sizeof digits;
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    write_all(fd, digits + first, (uint32_t)(sizeof digits - first));
}

/* As `isspace` in the C locale. */
static int is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

__attribute__((export_name("_start"))) void start(void) {
    uint64_t lines = 0, words = 0, bytes = 0;
    int in_word = 0;
    for (;;) {
        const room all = {buffer, sizeof buffer};
        uint32_t length = 0;
        if (fd_read(STDIN, &all, 1, &length) != 0) {
            write_text(STDERR, "cannot read the input\n");
            proc_exit(EX_TEMPFAIL);
        }
        if (length == 0) {
            break;
        }
        bytes += length;
        for (uint32_t i = 0; i < length; i++) {
            const int space = is_space(buffer[i]);
            lines += buffer[i] == '\n';
            words += !space && !in_word;
            in_word = !space;
        }
    }
    write_text(STDOUT, "{\"lines\":");
    write_number(STDOUT, lines);
    write_text(STDOUT, ",\"words\":");
    write_number(STDOUT, words);
    write_text(STDOUT, ",\"bytes\":");
    write_number(STDOUT, bytes);
    write_text(STDOUT, "}");
}
