// Looks into JSON text that is known to be valid, as what the host writes is. A value is a pointer to where it begins.
#pragma once
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// All of a file, as text.
static char *json_read(FILE *file) {
    size_t size = 0, room = 4096;
    char *text = malloc(room);
    for (size_t read; text && (read = fread(text + size, 1, room - size - 1, file)) > 0;) {
        size += read;
        if (size + 1 == room) text = realloc(text, room *= 2);
    }
    if (!text) abort();
    text[size] = '\0';
    return text;
}

static const char *json_space(const char *text) { return text + strspn(text, " \t\r\n"); }

// Where a value ends.
static const char *json_end(const char *text) {
    int depth = 0;
    do {
        if (*text == '"') {
            for (text++; *text && *text != '"'; text++) text += *text == '\\';
        } else if (*text == '{' || *text == '[') {
            depth++;
        } else if (*text == '}' || *text == ']') {
            depth--;
        } else if (depth == 0) {
            return text + strcspn(text, ",]} \t\r\n");
        }
        if (*text) text++;
    } while (depth > 0 && *text);
    return text;
}

// The code unit of four hexadecimal digits.
static unsigned json_unit(const char *digits) {
    char text[5] = {digits[0], digits[1], digits[2], digits[3]};
    return (unsigned)strtoul(text, NULL, 16);
}

// Writes the next character of a string in UTF-8, and says where the one after it begins.
static const char *json_character(const char *text, char utf8[5]) {
    memset(utf8, 0, 5);
    if (*text != '\\') return utf8[0] = *text, text + 1;
    const char *escape = strchr("b\bf\fn\nr\rt\t", text[1]);
    if (text[1] != 'u') return utf8[0] = escape ? escape[1] : text[1], text + 2;
    unsigned code = json_unit(text + 2);
    text += 6;
    if (code >> 10 == 0x36 && text[0] == '\\' && text[1] == 'u') {
        code = 0x10000 + ((code & 0x3ff) << 10 | (json_unit(text + 2) & 0x3ff));
        text += 6;
    }
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    utf8[0] = (char)(more ? 0xf00 >> (more + 1) | code >> 6 * more : code);
    for (int i = 1; i <= more; i++) utf8[i] = (char)(0x80 | (code >> 6 * (more - i) & 0x3f));
    return text;
}

// Whether a value is a string.
static bool json_is_text(const char *value) { return value && *value == '"'; }

// Whether a value is this string.
static bool json_is(const char *value, const char *text) {
    if (!json_is_text(value)) return false;
    for (value++; *value && *value != '"';) {
        char utf8[5];
        value = json_character(value, utf8);
        size_t size = strlen(utf8);
        if (size == 0 || strncmp(utf8, text, size) != 0) return false;
        text += size;
    }
    return !*text;
}

// The value under a key, the last if there are several; NULL if it is not there, or if there is no object.
static const char *json_get(const char *object, const char *key) {
    const char *found = NULL;
    if (!object || *object != '{') return NULL;
    for (const char *at = json_space(object + 1); *at == '"';) {
        const char *value = json_space(json_space(json_end(at)) + 1);
        if (json_is(at, key)) found = value;
        at = json_space(json_end(value));
        if (*at == ',') at = json_space(at + 1);
    }
    return found;
}

// A value as it stands in the text, to be printed with %.*s.
#define JSON_RAW(value) (int)(json_end(value) - (value)), (value)
