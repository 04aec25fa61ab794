/* Watches one folder: logs everything that is written, truncated, renamed, removed and flushed there, in one order, and
 * fails the Nth call of a kind on demand. Loaded ahead of libc (LD_PRELOAD); written for Linux with glibc.
 *
 * What must stay true: a call and its entry in the log are one step under one lock, so that the log's order is the order
 * in which the kernel saw the calls. A call outside the folder passes through untouched. A failed flush is logged as
 * failed: what was written before it may be lost though a later flush succeeds.
 *
 * Log entry: u32 operation, u32 file, u64 offset or size or flags, u32 length, bytes (native order). A file's number
 * stands for one opening of it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { OPENED = 1, WRITTEN, TRUNCATED, FLUSHED, FLUSH_FAILED, RENAMED, REMOVED, ACKNOWLEDGED };
enum { WRITE = 0, FLUSH, TRUNCATE, RENAME, OPEN, REMOVE, KINDS };
enum { MOST_FILES = 4096, SHORT = -1, LIE = -2 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_length;
static int log_file = -1;
static uint32_t file_of[MOST_FILES]; /* by descriptor; 0: not watched */
static uint32_t files;
static long counted[KINDS];
static int fault_kind = -1, fault_error, fault_lasts, fault_happened;
static long fault_at;

static void append(uint32_t operation, uint32_t file, uint64_t number, const void *data, uint32_t length) {
    if (log_file < 0) return;
    struct __attribute__((packed)) { uint32_t operation, file; uint64_t number; uint32_t length; } head = {
        operation, file, number, length};
    syscall(SYS_write, log_file, &head, sizeof head);
    if (length) syscall(SYS_write, log_file, data, length);
}

static int watched(const char *path) {
    return folder_length && path && !strncmp(path, folder, folder_length) &&
           (path[folder_length] == '/' || path[folder_length] == 0);
}

static uint32_t file_at(int descriptor) {
    return descriptor >= 0 && descriptor < MOST_FILES ? file_of[descriptor] : 0;
}

/* Count a call of a kind; the error that it shall fail with, or 0. Under the lock. */
static int fault(int kind) {
    long number = ++counted[kind];
    if (kind != fault_kind || number < fault_at || (number > fault_at && !fault_lasts)) return 0;
    fault_happened++;
    return fault_error;
}

/* Watch a folder from now on (NULL: none). Appends to the log unless it is NULL. Counters and faults are reset. */
void storage_watch(const char *path, const char *log) {
    pthread_mutex_lock(&lock);
    if (log_file >= 0) syscall(SYS_close, log_file);
    log_file = log ? (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    snprintf(folder, sizeof folder, "%s", path ? path : "");
    folder_length = strlen(folder);
    files = (uint32_t)getpid() << 12; /* so that several processes can append to one log */
    memset(counted, 0, sizeof counted);
    fault_kind = -1;
    fault_happened = 0;
    pthread_mutex_unlock(&lock);
}

/* Fail the call ``at`` (from 1) of a kind, counted from now on; ``lasts``: all of that kind that follow, too. */
void storage_fail(int kind, long at, int error, int lasts) {
    pthread_mutex_lock(&lock);
    memset(counted, 0, sizeof counted);
    fault_kind = kind, fault_at = at, fault_error = error, fault_lasts = lasts, fault_happened = 0;
    pthread_mutex_unlock(&lock);
}

long storage_calls(int kind) { return counted[kind]; }
int storage_failed(void) { return fault_happened; }
void storage_acknowledge(uint64_t number) {
    pthread_mutex_lock(&lock);
    append(ACKNOWLEDGED, 0, number, NULL, 0);
    pthread_mutex_unlock(&lock);
}

static int open_any(int at, const char *path, int flags, mode_t mode) {
    if (!watched(path)) return (int)syscall(SYS_openat, at, path, flags, mode);
    pthread_mutex_lock(&lock);
    int error = fault(OPEN);
    int descriptor = -1;
    if (error > 0) {
        errno = error;
    } else {
        descriptor = (int)syscall(SYS_openat, at, path, flags, mode);
        if (descriptor >= 0 && descriptor < MOST_FILES) {
            int kept = errno;
            file_of[descriptor] = ++files;
            append(OPENED, files, (uint64_t)flags, path, (uint32_t)strlen(path));
            errno = kept;
        }
    }
    pthread_mutex_unlock(&lock);
    return descriptor;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = (mode_t)va_arg(more, int); \
        va_end(more); \
    }
int open(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_any(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return open_any(at, path, flags | O_LARGEFILE, mode); }
int __open_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags | O_LARGEFILE, 0); }

int close(int descriptor) {
    if (descriptor >= 0 && descriptor < MOST_FILES) file_of[descriptor] = 0;
    return (int)syscall(SYS_close, descriptor);
}

static ssize_t write_any(int descriptor, const void *data, size_t length, off_t offset, int positioned) {
    pthread_mutex_lock(&lock);
    uint32_t file = file_at(descriptor);
    int error = file ? fault(WRITE) : 0;
    ssize_t written = -1;
    if (error > 0) {
        errno = error;
    } else {
        if (error == SHORT) length = length > 1 ? length / 2 : length;
        if (file && !positioned) offset = lseek(descriptor, 0, SEEK_CUR);
        written = positioned ? (ssize_t)syscall(SYS_pwrite64, descriptor, data, length, offset)
                             : (ssize_t)syscall(SYS_write, descriptor, data, length);
        if (file && written > 0) {
            int kept = errno;
            append(WRITTEN, file, (uint64_t)offset, data, (uint32_t)written);
            errno = kept;
        }
    }
    pthread_mutex_unlock(&lock);
    return written;
}
ssize_t write(int descriptor, const void *data, size_t length) {
    if (!file_at(descriptor)) return (ssize_t)syscall(SYS_write, descriptor, data, length); /* may block: no lock */
    return write_any(descriptor, data, length, 0, 0);
}
ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset) {
    return write_any(descriptor, data, length, offset, 1);
}
ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset) {
    return write_any(descriptor, data, length, offset, 1);
}

static int flush_any(int descriptor, long call) {
    pthread_mutex_lock(&lock);
    uint32_t file = file_at(descriptor);
    int error = file ? fault(FLUSH) : 0;
    int result = -1;
    if (error) {
        append(FLUSH_FAILED, file, 0, NULL, 0);
        errno = error;
        result = error == LIE ? 0 : -1;
    } else {
        result = (int)syscall(call, descriptor);
        if (file) append(result ? FLUSH_FAILED : FLUSHED, file, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return result;
}
int fsync(int descriptor) { return flush_any(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return flush_any(descriptor, SYS_fdatasync); }

int ftruncate(int descriptor, off_t size) {
    pthread_mutex_lock(&lock);
    uint32_t file = file_at(descriptor);
    int error = file ? fault(TRUNCATE) : 0;
    int result = -1;
    if (error > 0) {
        errno = error;
    } else {
        result = (int)syscall(SYS_ftruncate, descriptor, size);
        if (file && !result) append(TRUNCATED, file, (uint64_t)size, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate64(int descriptor, off64_t size) { return ftruncate(descriptor, size); }

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    int ours = watched(from) || watched(to);
    int error = ours ? fault(RENAME) : 0;
    int result = -1;
    if (error > 0) {
        errno = error;
    } else {
        result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
        if (ours && !result) {
            char both[2 * PATH_MAX];
            int length = snprintf(both, sizeof both, "%s\n%s", from, to);
            append(RENAMED, 0, 0, both, (uint32_t)length);
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    int error = watched(path) ? fault(REMOVE) : 0;
    int result = -1;
    if (error > 0) {
        errno = error;
    } else {
        result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
        if (watched(path) && !result) append(REMOVED, 0, 0, path, (uint32_t)strlen(path));
    }
    pthread_mutex_unlock(&lock);
    return result;
}
