/* Words that headers which people really use define as macros, in the way they do.  run.sh builds
   the header, interface and implementation, behind this page: a name of ours that is here breaks. */

// what glam.h includes itself has come before, as it has in the programs that have such words
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <unistd.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

// compilers in GNU mode
#undef HUGE
#undef linux
#undef unix
#define linux 1
#define unix 1
#define i386 1
#define sun 1
#define mips 1

// windows.h and what it brings
#ifndef _WIN32
#define far
#define near
#define FAR
#define NEAR
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define CALLBACK
#define pascal
#define cdecl
#endif
#define small char
#define hyper long
#define interface struct
#define ERROR 0
#define NO_ERROR 0
#define STRICT 1
#define DELETE 0x10000
#define IGNORE 0
#define INFINITE 0xffffffff
#define ABSOLUTE 1
#define RELATIVE 2
#define DIFFERENCE 11
#define TRANSPARENT 1
#define OPAQUE 2
#define THIS void
#define TEXT(x) L##x
#define GetMessage GetMessageA
#define CreateFile CreateFileA
#define TRUE 1
#define FALSE 0
#define BOOL int
#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define MIN(a, b) (((a) < (b)) ? (a) : (b))
#define MAX(a, b) (((a) > (b)) ? (a) : (b))
#define ABS(a) ((a) < 0 ? -(a) : (a))

// Qt
#define slots
#define signals public
#define emit
#define foreach(a, b) for (a : b)
#define forever for (;;)

// X.h, Xlib.h
#define None 0L
#define Bool int
#define Status int
#define True 1
#define False 0
#define Always 2
#define Success 0
#define Above 0
#define Below 1
#define Unsorted 0
#define Complex 0
#define Convex 2
#define KeyPress 2
#define Expose 12
#define CurrentTime 0L

// curses.h
#define OK 0
#define ERR (-1)
#define move(y, x) wmove(stdscr, (y), (x))
#define clear() wclear(stdscr)
#define erase() werase(stdscr)
#define refresh() wrefresh(stdscr)
#define getch() wgetch(stdscr)
#define timeout(t) wtimeout(stdscr, (t))
#define box(w, a, b) wborder(w, a, a, b, b, 0, 0, 0, 0)

// termios.h, sys/ioctl.h, sys/param.h, sys/sysmacros.h
#define B0 0
#define B50 1
#define ECHO 8
#define CTRL(x) ((x) & 31)
#define NL0 0
#define CR0 0
#define TAB0 0
#define BS0 0
#define VT0 0
#define FF0 0
#define EXTA 14
#define NCC 8
#define howmany(x, y) (((x) + ((y)-1)) / (y))
#define roundup(x, y) ((((x) + ((y)-1)) / (y)) * (y))
#define powerof2(x) ((((x)-1) & (x)) == 0)
#define isset(a, i) ((a)[(i) / 8] & (1 << ((i) % 8)))
#define setbit(a, i) ((a)[(i) / 8] |= 1 << ((i) % 8))
#define major(d) gnu_dev_major(d)
#define minor(d) gnu_dev_minor(d)

// complex.h, and math.h of older systems
#define I _Complex_I
#define complex _Complex
#define imaginary _Imaginary
#define HUGE 3.40282347e+38F
#define DOMAIN 1
#define SING 2
#define OVERFLOW 3
#define UNDERFLOW 4

// strings.h of older systems
#define index strchr
#define rindex strrchr
#define bzero(p, n) memset((p), 0, (n))

// netinet and signals
#define s_addr S_un.S_addr
#define h_addr h_addr_list[0]
#define sa_handler u.handler

// Arduino
#define F(text) (text)
#define PI 3.1415926535897932
#define HALF_PI 1.5707963267948966
#define EULER 2.718281828459045
#define HIGH 1
#define LOW 0
#define INPUT 0
#define OUTPUT 1
#define DEFAULT 1
#define EXTERNAL 0
#define CHANGE 1
#define RISING 3
#define DEC 10
#define HEX 16
#define BIN 2
#define bit(b) (1UL << (b))
#define sq(x) ((x) * (x))
#define radians(x) ((x) * 0.017453292519943295)
#define constrain(x, a, b) ((x) < (a) ? (a) : ((x) > (b) ? (b) : (x)))
#define interrupts() sei()
#define lowByte(w) ((w) & 0xff)

// Cocoa, AssertMacros.h, game engines, test frameworks
#define nil 0
#define Nil 0
#define YES 1
#define NO 0
#define check(c) do {} while (0)
#define verify(c) do {} while (0)
#define require(c, label) do {} while (0)
#define ensure(c) (c)
#define LOG(x) x
#define CHECK(x) (x)
#define TEST(a, b) a##b
#define SECTION(x) if (x)
#define REQUIRE(x) (x)
#define INLINE inline
#define FORCEINLINE inline
#define likely(x) (x)
#define unlikely(x) (x)
#define swap(a, b) ((void)0)
#define current get_current()
#define countof(a) (sizeof(a) / sizeof(*(a)))
#define offset(t, m) offsetof(t, m)

// chips: registers of Solaris, STM32, Atmel, Symbian
#define SS 18
#define CS 15
#define DS 3
#define ES 2
#define FS 1
#define GS 0
#define SP 17
#define PC 14
#define SET 1
#define RESET 0
#define ENABLE 1
#define DISABLE 0
#define _BV(b) (1 << (b))
#define L(x) L##x
