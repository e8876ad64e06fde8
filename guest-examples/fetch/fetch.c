/* Fetches a URL, which is the args, and gives its body: a job in C that makes a request by midge's own imports, without a C
 * library or SDK.
 *
 * fetch.wasm is committed, because midge.toml may also name modules that are already built. It was made by
 *
 *   clang --target=wasm32 -std=c17 -Wall -Wextra -O2 -ffreestanding -nostdlib -Wl,--no-entry -Wl,--strip-all \
 *     -o fetch.wasm fetch.c
 */

#include <stdint.h>

/* The four functions of WASI that it needs. */
#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))

typedef struct {
    const char *address;
    uint32_t length;
} piece; /* to write from */

WASI("args_sizes_get") extern uint16_t args_sizes_get(uint32_t *count, uint32_t *bytes);
WASI("args_get") extern uint16_t args_get(char **args, char *texts);
WASI("fd_write") extern uint16_t fd_write(uint32_t fd, const piece *pieces, uint32_t count, uint32_t *done);
WASI("proc_exit") extern _Noreturn void proc_exit(uint32_t code);

/* What midge adds. docs/abi.md has all of it. */
#define MIDGE(name) __attribute__((import_module("midge"), import_name(name)))

MIDGE("error") extern void midge_error(const char *text, int32_t length);
MIDGE("http_open") extern int32_t http_open(const char *head, int32_t length, int32_t redirects, int64_t timeout_ms);
MIDGE("http_send") extern int32_t http_send(int32_t request);
MIDGE("http_head") extern int32_t http_head(int32_t request, char *room, int32_t length);
MIDGE("http_read") extern int32_t http_read(int32_t request, char *room, int32_t length);
MIDGE("http_close") extern void http_close(int32_t request);
MIDGE("http_error") extern int32_t http_error(char *room, int32_t length);

enum { STDOUT = 1, STDERR = 2 };
enum { EX_DATAERR = 65 /* do not try again */, EX_TEMPFAIL = 75 /* try again */ };
enum { HTTP_NOT_ALLOWED = -1, HTTP_INVALID = -2 };
enum { REDIRECTS_MAX = 5, TIMEOUT_MS = 60 * 1000 };
enum { ARGS_MAX = 8 };

/* The args are at most 64 KiB; beside them there is the name of the module, and ends. */
static char texts[65 * 1024];
static char *args[ARGS_MAX];

/* A piece of a body, and each text that is put together. */
static char buffer[64 * 1024];

static uint32_t length_of(const char *text) {
    uint32_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}

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

/* Says why there is no result, to the host and in the log. */
static _Noreturn void fail(uint32_t code, const char *text, uint32_t length) {
    midge_error(text, (int32_t)length);
    write_all(STDERR, text, length);
    write_all(STDERR, "\n", 1);
    proc_exit(code);
}

/* Fails as a call about a request did. What asks the same in the next attempt is not tried again. */
static _Noreturn void fail_with(int32_t number) {
    const int32_t length = http_error(buffer, sizeof buffer);
    const uint32_t there = (uint32_t)length < sizeof buffer ? (uint32_t)length : sizeof buffer;
    fail(number == HTTP_NOT_ALLOWED || number == HTTP_INVALID ? EX_DATAERR : EX_TEMPFAIL, buffer, there);
}

static int32_t or_fail(int32_t returned) {
    if (returned < 0) {
        fail_with(returned);
    }
    return returned;
}

/* Puts the head of the request into the buffer: `GET `, the URL from a JSON text, and a line's end. */
static uint32_t request_head(const char *json) {
    static const char wrong[] = "the args must be a URL as JSON text, without a backslash";
    const uint32_t length = length_of(json);
    if (length < 2 || json[0] != '"' || json[length - 1] != '"' || length > sizeof buffer - 8) {
        fail(EX_DATAERR, wrong, sizeof wrong - 1);
    }
    uint32_t end = 0;
    for (const char *method = "GET "; *method != '\0'; method++) {
        buffer[end++] = *method;
    }
    for (uint32_t i = 1; i < length - 1; i++) {
        if (json[i] == '\\') {
            fail(EX_DATAERR, wrong, sizeof wrong - 1);
        }
        buffer[end++] = json[i];
    }
    buffer[end++] = '\n';
    return end;
}

__attribute__((export_name("_start"))) void start(void) {
    uint32_t count = 0, bytes = 0;
    if (args_sizes_get(&count, &bytes) != 0 || count < 2 || count > ARGS_MAX || bytes > sizeof texts ||
        args_get(args, texts) != 0) {
        static const char none[] = "there are no args, or too many";
        fail(EX_DATAERR, none, sizeof none - 1);
    }
    const uint32_t length = request_head(args[1]);
    const int32_t request = or_fail(http_open(buffer, (int32_t)length, REDIRECTS_MAX, TIMEOUT_MS));
    or_fail(http_send(request));

    /* `200 https://...` */
    char status[3] = {0};
    or_fail(http_head(request, status, sizeof status));
    if (status[0] != '2') {
        static char message[] = "the answer has the status ...";
        for (uint32_t i = 0; i < sizeof status; i++) {
            message[sizeof message - 4 + i] = status[i];
        }
        fail(EX_TEMPFAIL, message, sizeof message - 1);
    }
    for (;;) {
        const int32_t read = or_fail(http_read(request, buffer, sizeof buffer));
        if (read == 0) {
            break;
        }
        write_all(STDOUT, buffer, (uint32_t)read);
    }
    http_close(request);
}
