/* The lock word (covey/memory/lock_word.cpp, docs/design/identity.md): LOCKERS threads lock, unlock and recover it; up to KILLS of
   them are killed between any two atomic steps, also as recoverers. models/check runs this.

   Memory: sequentially consistent here. The code's orders suffice because everything that decides is one word: the
   lock is won by an acquire compare-and-swap of what a release exchange stored, and the kernel compares the same word, and the
   family's `deaths`, once more before it puts anybody to sleep. `deaths` is read (acquire) before the word.

   Shown: one owner at a time; who locks without being told `unrepaired` finds the state whole; and (no invalid end
   state) nobody sleeps for ever: not for the lock, and not for a wake that somebody who was killed owed.

   BUG: 1 who has slept locks without leaving the mark that others may sleep; 2 sleepers do not sleep on `deaths`;
        3 a dead owner's lock is freed as if it were whole; 4 who gives up waiting does not pass on a wake that it may have got. */
#ifndef BUG
#define BUG 0
#endif
#ifndef LOCKERS
#define LOCKERS 3
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

typedef word_t { byte owner; bool waiters, unrepaired };  /* one 64-bit word: changed in one step only */
word_t word;
byte deaths;                       /* of the family; read-only for participants */
bool alive[LOCKERS], kill[LOCKERS], asleep[LOCKERS];
byte inside;                       /* who is between lock and unlock: 1 + who, 0 nobody that lives */
bool broken;                       /* somebody may have died inside: to be found out by those who lock */

#define SAME(w) (word.owner == w.owner && word.waiters == w.waiters && word.unrepaired == w.unrepaired)
#define SET(o, w, u) word.owner = o; word.waiters = w; word.unrepaired = u
#define LOAD(w) w.owner = word.owner; w.waiters = word.waiters; w.unrepaired = word.unrepaired

inline wake_all() { d_step { i = 0; do :: i < LOCKERS -> asleep[i] = false; i++ :: else -> break od; i = 0 } }

inline wake_one() {  /* whichever the kernel picks */
  atomic {
    if
    :: asleep[0] -> asleep[0] = false
    :: asleep[1] -> asleep[1] = false
#if LOCKERS > 2
    :: asleep[2] -> asleep[2] = false
#endif
#if LOCKERS > 3
    :: asleep[3] -> asleep[3] = false
#endif
    :: else
    fi
  }
}

/* result: 0 not now, 1 locked, 2 unrepaired; with `repair` it is locked then, too. 3: look again. */
inline lock(repair, may_give_up) {
  slept = false;
  result = 3;
  do
  :: result != 3 -> break
  :: else ->
     known = deaths;
     d_step { LOAD(seen) }
     if
     :: seen.owner == 0 && seen.unrepaired && !repair -> result = 2
     :: seen.owner == 0 && !(seen.unrepaired && !repair) ->
        d_step {
          if
          :: SAME(seen) ->
             SET(me + 1, (seen.waiters || (slept && BUG != 1)), seen.unrepaired);
             assert(inside == 0);
             inside = me + 1;
             result = (seen.unrepaired -> 2 : 1)
          :: else
          fi
        }
     :: seen.owner != 0 && !alive[seen.owner - 1] ->  /* bury */
        d_step {
          if
          :: SAME(seen) -> SET(0, false, (BUG != 3))
          :: else -> seen.waiters = false
          fi
        }
        if :: seen.waiters -> wake_all() :: else fi
     :: seen.owner != 0 && alive[seen.owner - 1] ->
        assert(seen.owner != me + 1);
        d_step {
          if
          :: SAME(seen) -> word.waiters = true; seen.waiters = true; slept = true
          :: else -> seen.waiters = false
          fi
        }
        if
        :: seen.waiters ->
           d_step { asleep[me] = (SAME(seen) && (deaths == known || BUG == 2)) }  /* the kernel's own look */
           if
           :: !asleep[me]
           :: may_give_up ->  /* stopped, perhaps just when it was woken as well */
              asleep[me] = false;
              if :: BUG != 4 -> wake_one() :: else fi
              result = 0
           fi
        :: else
        fi
     fi
  od
}

inline unlock() {
  d_step { inside = 0; broken = false; slept = word.waiters; SET(0, false, false) }
  if :: slept -> wake_one() :: else fi
}

proctype locker(byte me) {
  word_t seen; byte known, round, result, i; bool slept;
  {
    do
    :: round < ROUNDS ->
       round++;
       if
       :: me == 0 -> lock(false, true)
       :: else -> lock(false, false)
       fi
       if
       :: result == 1 -> assert(!broken); broken = true; unlock()
       :: result == 2 ->  /* owner_died: recover */
          lock(true, false);
          if
          :: result == 1 -> assert(!broken)
          :: else
          fi
          broken = true; unlock()
       :: else
       fi
    :: else -> break
    od
  } unless { kill[me] };
  if
  :: kill[me] ->
     d_step { alive[me] = false; asleep[me] = false; if :: inside == me + 1 -> inside = 0 :: else fi }
     d_step { deaths++; i = 0; do :: i < LOCKERS -> if :: BUG != 2 -> asleep[i] = false :: else fi; i++ :: else -> break od }
  :: else
  fi
}

active proctype killer() {
  byte kills;
end:
  do
  :: kills < KILLS -> kills++;
     if
     :: kill[0] = true
     :: kill[1] = true
#if LOCKERS > 2
     :: kill[2] = true
#endif
#if LOCKERS > 3
     :: kill[3] = true
#endif
     fi
  :: break
  od
}

init {
  byte n;
  atomic { do :: n < LOCKERS -> alive[n] = true; run locker(n); n++ :: else -> break od }
}
