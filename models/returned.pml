/* Messages that come back from dead consumers to a queue that was filled meanwhile (queue_lanes.cpp: sweep_lanes; lane_quota.cpp:
   room_for_returned, granted, gather_quota; docs/design/queue.md). Two owners put, each into its lane, and move quota; two takers
   have messages in hand, and up to KILLS of them die; SWEEPERS return what the dead had. With SWEEPER_KILLS the first of these is killed between any
   two atomic steps, and then the second begins. Up to STOPS times one that has the place of who moves quota is stopped for so long that
   another takes it (and then it goes on). models/check runs this.

   A message is one of ITEMS here, and every position has a slot of its own. Memory: sequentially consistent; all that is compared and swapped is one word.

   Shown: at the instant at which a put swaps the gate, fewer messages than the queue may hold wait or are being put, those that came
   back included; by rank too. (So there are never more than it may hold and those that came back since the last put swapped the gate: a put that was
   under way when they came back commits all the same, one for each lane.) The quotas, as seen by who may move them, never exceed the queue. Nobody
   waits for ever; nothing stays in a dead hand, and what came back behind its lane's head is looked for; and when all is over and taken, the next put
   finds room.

   Not shown: put_back, where the hand lives. A sweeper that is killed while another is at it. Bytes: the sweeper lowers both quotas, and a put looks
   at both; its look after the gate is in quota.pml, as are owners that are killed. Slots are looked at lane by lane, not one by one.

   BUG: 1 a sweeper returns a message before it makes room; 2 it lowers one lane's quota alone; 3 who gathers quota does not count what came
        back; 4 nor what is in dead hands; 5 a lane counts for its quota alone; 6 who takes another's place does not give the quotas another
        turn; 7 a sweeper that made room once does not look whether it is its turn still; 8 it looks for that before it looks at the hand, not
        after; 9 it lowers quotas without having the place of who moves them; 10 it says only when it has returned them that messages come
        back; 11 by rank, what came back counts as what waits for the first time does, within the quota; 12 who gathers looks whether anything
        came back before it has the place; 13 it raises its quota although there is more already than the queue may hold; 14 a scan that saw a
        message in a dead hand says that none came back; 15 what is in dead hands from the head on counts as what waits in its lane does, alone:
        the head may pass it before it comes back.
   10, 11, 13 and 15 are what the code once did: found with this model. */
#ifndef BUG
#define BUG 0
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef SWEEPER_KILLS
#define SWEEPER_KILLS 0
#endif
#ifndef SWEEPERS
#define SWEEPERS 1
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef ITEMS
#define ITEMS 2
#endif
#ifndef PUTS
#define PUTS 1  /* of each owner, beside the ITEMS that wait at first */
#endif
#ifndef PUTTERS
#define PUTTERS 2  /* 1: the owner of the first lane puts only when all is over */
#endif
#ifndef TRIES
#define TRIES 1
#endif
#ifndef TAKES
#define TAKES 1  /* of each taker */
#endif
#ifndef RANK
#define RANK 0  /* 1: a queue that goes by rank. Any message may be the next, and an owner counts anew what waits in its lane only when it has no room. */
#endif
#ifndef LAG
#define LAG 0  /* 1: a death is counted only some time after the dead are known as such */
#endif
#ifndef CURSOR
#define CURSOR 0  /* 1: a taker moves the head on only some time after it has taken */
#endif
#define SLOTS 4

/* What is in a slot. Whoever is passed by a head is GONE or more. */
#define NONE 0  /* nothing yet, or a message that is being put */
#define QUEUED 1
#define LATE 2  /* came back */
#define GONE 3
#define HAND 4  /* + whose */

typedef lane_t { byte quota, tail, turn; /* the gate: one word */ byte head; byte slot[SLOTS] };
lane_t lane[2];
byte holder;               /* who moves quota: 1 + an owner, 3 + a sweeper */
bool dead[2], dead_sweeper[2], resting[2];
byte deaths, swept;
bool late;                 /* something may have come back, or will */
byte untold;               /* which messages came into a dead hand since that was last said */
byte kills, stops, over, uncounted;  /* deaths */

#define DEAD_HAND(s) ((s) >= HAND && dead[(s) - HAND])
#define IS(l, p, s) (lane[l].slot[p] == s)
#define WAITS(l, p) (lane[l].tail > p && lane[l].slot[p] < GONE)
#define ALL_THAT_WAITS(l) (WAITS(l, 0) + WAITS(l, 1) + WAITS(l, 2) + WAITS(l, 3))
#define NEW(l, p) (lane[l].tail > p && lane[l].slot[p] < LATE)
#if RANK && BUG == 11
#define WAITING(l) ALL_THAT_WAITS(l)
#elif RANK
#define WAITING(l) (NEW(l, 0) + NEW(l, 1) + NEW(l, 2) + NEW(l, 3))
#else
#define WAITING(l) (lane[l].tail - lane[l].head)
#endif
#define LANE_HAS(l, s) (IS(l, 0, s) || IS(l, 1, s) || IS(l, 2, s) || IS(l, 3, s))
#define LANE_HAS_DEAD(l) (DEAD_HAND(lane[l].slot[0]) || DEAD_HAND(lane[l].slot[1]) || DEAD_HAND(lane[l].slot[2]) || DEAD_HAND(lane[l].slot[3]))

#define REST(s) (resting[s] || dead_sweeper[s])

/* Within one atomic step. */
inline settle(l) { do :: lane[l].head < lane[l].tail && lane[l].slot[lane[l].head] >= GONE -> lane[l].head++ :: else -> break od }

inline take_place(name) {
  atomic {
    holder == 0 || (holder != name && ((holder > 2 && dead_sweeper[holder - 3]) || stops < STOPS)) ->
    had = (holder != 0);
    if :: holder != 0 && !(holder > 2 && dead_sweeper[holder - 3]) -> stops++ :: else fi;
    holder = name
  };
  if
  :: had && BUG != 6 -> lane[0].turn++; lane[1].turn++
  :: else
  fi
}

inline leave_place(name) { atomic { if :: holder == name -> holder = 0 :: else fi; had = 0 } }

/* Into `sum`: what waits or may be put, of lane `own` what came back alone. Into `had`: it is our turn still. */
inline count_quota(l, own) {
  word = lane[l].quota;
  atomic {
    settle(l);
    quotas = quotas + word;
    if :: l != own -> sum = sum + (WAITING(l) > word && BUG != 5 -> WAITING(l) : word) :: else fi;
    word = 0
  }
}

/* What is in dead hands; and what came back, but not what lies from the head on: unless it goes by rank that was counted above. */
inline count_returned(l) {
  if
  :: returned ->
     atomic {
       settle(l);
       do
       :: p < lane[l].tail ->
          if
          :: BUG != 4 && DEAD_HAND(lane[l].slot[p]) && (RANK || BUG != 15 || p < lane[l].head) -> sum++
          :: BUG != 3 && !(RANK && BUG == 11) && IS(l, p, LATE) && (RANK || p < lane[l].head) -> sum++
          :: else
          fi;
          p++
       :: else -> break
       od;
       p = 0
     }
  :: else
  fi
}

inline count() {
  count_quota(0, own); count_returned(0);
  count_quota(1, own); count_returned(1);
  atomic { had = (holder == 1 + own); assert(!had || quotas <= ITEMS); quotas = 0 }
}

/* ---- who puts ---- */

#define SOMETHING_RETURNED (RANK || late)

inline gather() {
  if :: BUG == 12 -> returned = SOMETHING_RETURNED :: else fi;
  take_place(1 + own);
  atomic { quota = lane[own].quota; turn = lane[own].turn; settle(own); mine = WAITING(own); had = (mine < quota); if :: BUG != 12 -> returned = SOMETHING_RETURNED :: else fi };
  if
  :: had
  :: else ->
     count();
     if
     :: had && (sum + quota <= ITEMS || BUG == 13) ->
        atomic {
          more = (sum + quota < ITEMS -> ITEMS - sum - quota : 0);
          short_of = (mine + 1 > quota -> mine + 1 - quota : 0);
          more = (more < short_of -> more : short_of)
        };
        if
        :: more < short_of ->
           do
           :: atomic { settle(1 - own); l = lane[1 - own].head };
              atomic { word = lane[1 - own].quota; p = lane[1 - own].turn; quotas = lane[1 - own].tail;
#if RANK
                sum = WAITING(1 - own)
#else
                sum = quotas - l
#endif
              };
              if
              :: sum >= word -> break
              :: else
              fi;
              atomic {
                if
                :: lane[1 - own].quota == word && lane[1 - own].turn == p && lane[1 - own].tail == quotas ->
                   sum = (short_of - more < word - sum -> short_of - more : word - sum);
                   lane[1 - own].quota = word - sum;
                   more = more + sum;
                   break
                :: else
                fi
              }
           od
        :: else
        fi;
        atomic { if :: lane[own].quota == quota && lane[own].turn == turn -> lane[own].quota = quota + more :: else fi }
     :: else
     fi
  fi;
  atomic { leave_place(1 + own); if :: RANK :: else -> mine = 0 fi; l = 0; p = 0; word = 0; sum = 0; quotas = 0; more = 0; short_of = 0; returned = 0; quota = 0; turn = 0 }
}

inline look() {
  quota = lane[own].quota; turn = lane[own].turn;
  if :: !RANK || mine >= quota -> settle(own); mine = WAITING(own) :: else fi;
  had = (mine < quota);
  if :: RANK :: else -> mine = 0 fi
}

inline try_to_put() {
  if
  :: !had -> gather(); atomic { look() }
  :: had
  fi;
  atomic {  /* the gate */
    if
    :: had && lane[own].quota == quota && lane[own].turn == turn ->
       assert(ALL_THAT_WAITS(0) + ALL_THAT_WAITS(1) < ITEMS);
       lane[own].tail++;
       put = true
    :: else
    fi;
    quota = 0; turn = 0; had = false
  };
  if
  :: put -> atomic { lane[own].slot[lane[own].tail - 1] = QUEUED; if :: RANK -> mine++ :: else fi; puts++; put = false }  /* the commit */
  :: else
  fi
}

proctype owner(byte own) {
  byte puts, tries, mine, quota, turn, l, p, word, sum, quotas, more, short_of;
  bool had, put, returned;
  atomic { if :: RANK && own == 0 -> mine = ITEMS :: else fi };
  do
  :: atomic { puts == PUTS || tries == TRIES || own < 2 - PUTTERS -> over++; puts = 0; tries = 0; break }
  :: atomic { puts < PUTS && tries < TRIES && own >= 2 - PUTTERS -> tries++; look() };
     try_to_put()
  od;
  if
  :: atomic { own == 0 && over == 2 && swept == deaths && uncounted == 0 && REST(0) && REST(1) ->
       over = 3;  /* all is taken, and nobody dies any more */
       assert(!LANE_HAS_DEAD(0) && !LANE_HAS_DEAD(1));
       do
       :: p < SLOTS ->
          assert(RANK || late || !(IS(0, p, LATE) && p < lane[0].head || IS(1, p, LATE) && p < lane[1].head));
          if :: WAITS(0, p) -> lane[0].slot[p] = GONE :: else fi;
          if :: WAITS(1, p) -> lane[1].slot[p] = GONE :: else fi;
          p++
       :: else -> break
       od;
       p = 0;
       look()
     };
     try_to_put();
     assert(puts == 1)
  :: own == 1 -> skip
  fi
}

/* ---- who takes ---- */

#define FIRST_IS(l, at) (at < lane[l].tail && at >= lane[l].head && (lane[l].slot[at] == QUEUED || lane[l].slot[at] == LATE) && \
    (lane[l].head == at || lane[l].slot[at - 1] >= GONE) && (lane[l].head + 1 >= at || lane[l].slot[at - 2] >= GONE) && \
    (lane[l].head + 2 >= at || lane[l].slot[at - 3] >= GONE))
#if RANK
#define MAY_TAKE(l, at) (lane[l].slot[at] == QUEUED || lane[l].slot[at] == LATE)
#else
#define MAY_TAKE(l, at) (lane[l].slot[at] == LATE || FIRST_IS(l, at))
#endif
#if CURSOR
/* In a row, the head stays behind; else it moved to what is taken there. A late one may be found elsewhere: then the cursor stays. */
#define MAY_FOLLOW(l, at) (FIRST_IS(l, at) && (next == 0 || in_lane == l))
#define MAY_STAY(l, at) (lane[l].slot[at] == LATE)
#define FOLLOW(l, at) if \
    :: MAY_FOLLOW(l, at) -> if :: next != at && lane[l].head < at -> lane[l].head = at :: else fi; in_lane = l; next = at + 1 \
    :: MAY_STAY(l, at) \
    fi
#else
#define MAY_FOLLOW(l, at) true
#define MAY_STAY(l, at) true
#define FOLLOW(l, at) skip
#endif
#define TAKE(l, at) atomic { takes < TAKES && MAY_TAKE(l, at) && over != 3 && (MAY_FOLLOW(l, at) || MAY_STAY(l, at)) -> FOLLOW(l, at); \
    lane[l].slot[at] = HAND + me; takes++; untold = untold & (255 - (1 << (SLOTS * l + at))) }

/* A scan that began when it was last said that messages come back finds it, in a dead hand or returned. */
#define TOLD(at) ((IS((at) / SLOTS, (at) % SLOTS, LATE) || (BUG != 14 && DEAD_HAND(lane[(at) / SLOTS].slot[(at) % SLOTS]))) && ((untold >> (at)) & 1) == 0)
#define IN_HAND(at) (IS((at) / SLOTS, (at) % SLOTS, HAND + me) << (at))
#define IN_HANDS (IN_HAND(0) | IN_HAND(1) | IN_HAND(2) | IN_HAND(3) | IN_HAND(4) | IN_HAND(5) | IN_HAND(6) | IN_HAND(7))

/* What is in a living hand may as well be gone. */
proctype taker(byte me) {
  byte takes, next; bit in_lane;
end:
  do
  :: TAKE(0, 0)
  :: TAKE(0, 1)
  :: TAKE(0, 2)
  :: TAKE(0, 3)
  :: TAKE(1, 0)
  :: TAKE(1, 1)
  :: TAKE(1, 2)
  :: TAKE(1, 3)
  :: atomic { late && over != 3 && !TOLD(0) && !TOLD(1) && !TOLD(2) && !TOLD(3) && !TOLD(4) && !TOLD(5) && !TOLD(6) && !TOLD(7) -> late = false }  /* none was found */
#if CURSOR
  :: atomic { next != 0 && over != 3 -> if :: lane[in_lane].head < next -> lane[in_lane].head = next :: else fi; next = 0; in_lane = 0 }
#endif
  :: atomic { takes != 0 && (me == 0 || dead[0]) && kills < KILLS && over != 3 ->
       kills++; dead[me] = true; untold = untold | IN_HANDS; takes = 0; next = 0; in_lane = 0; if :: LAG -> uncounted++ :: else -> deaths++; break fi };
     atomic { deaths++; uncounted--; break }
  od
}

/* ---- who sweeps ---- */

inline have_room() {
  had = has && (BUG == 7 || holder == 3 + me);
  if
  :: had -> had = 0
  :: else ->
     leave_place(3 + me);
     if :: BUG != 9 -> take_place(3 + me) :: else fi;
     atomic { had = 0; lane[0].quota = (BUG == 2 && me == 1 -> lane[0].quota : 0) };
     atomic { lane[1].quota = (BUG == 2 && me == 0 -> lane[1].quota : 0); has = true }
  fi
}

inline say_that_something_comes_back() { atomic { late = true; untold = 0 } }

proctype sweeper(byte me) {
  byte at, whose, seen;
  bool has, had;
  {
    do
    :: resting[me] = true;
end:   atomic { swept != deaths && (me == 0 || SWEEPER_KILLS == 0 || dead_sweeper[0]) -> resting[me] = false; seen = deaths };
       do
       :: at == 2 * SLOTS -> break
       :: at < 2 * SLOTS ->
          if :: BUG == 8 && (LANE_HAS_DEAD(0) || LANE_HAS_DEAD(1)) -> have_room() :: else fi;
          atomic {
            do
            :: at < 2 * SLOTS && !DEAD_HAND(lane[at / SLOTS].slot[at % SLOTS]) -> at++
            :: else -> break
            od;
            if :: at < 2 * SLOTS -> whose = lane[at / SLOTS].slot[at % SLOTS] :: else fi
          };
          if
          :: whose != 0 ->
             if :: BUG != 10 -> say_that_something_comes_back() :: else fi;
             if :: BUG != 1 && BUG != 8 -> have_room() :: else fi;
             atomic {
               if
               :: IS(at / SLOTS, at % SLOTS, whose) -> lane[at / SLOTS].slot[at % SLOTS] = LATE; if :: BUG == 10 || BUG == 14 -> untold = untold | (1 << at) :: else fi
               :: else
               fi;
               at++; whose = 0
             };
             if :: BUG == 1 -> have_room() :: else fi
          :: else
          fi
       od;
       if :: BUG == 10 -> say_that_something_comes_back() :: else fi;
       leave_place(3 + me);
       swept = seen;
       atomic { at = 0; has = 0; seen = 0 }
    od
  } unless { atomic { dead_sweeper[me] -> at = 0; whose = 0; seen = 0; has = 0; had = 0 } }
}

/* Of two sweepers the second then begins when the first is dead. */
proctype fate() {
end:
  atomic { !resting[0] && over != 3 -> dead_sweeper[0] = true; if :: LAG -> uncounted++ :: else -> deaths++ fi };
  if :: LAG -> atomic { deaths++; uncounted-- } :: else fi
}

/* ITEMS wait, in either lane. */
init {
  atomic {
    if :: lane[0].quota = ITEMS :: lane[0].quota = ITEMS - 1 fi; lane[0].tail = ITEMS; lane[0].slot[0] = QUEUED; lane[0].slot[1] = QUEUED;
    run owner(0); run owner(1); run taker(0); run taker(1); run sweeper(0);
    if :: SWEEPERS > 1 -> run sweeper(1) :: else -> resting[1] = true fi;
    if :: SWEEPER_KILLS != 0 -> run fate() :: else fi
  }
}
