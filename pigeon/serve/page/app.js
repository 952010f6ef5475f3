// The page of pigeon. It keeps three things: what the office says (people, conversations), what it still owes the office
// (the outbox, in localStorage, so that neither a reload nor a crash loses a message), and what is open. Everything that
// changes calls changed(), and one render brings the document up to date. docs/web-protocol.md describes the messages.
// Text of others enters the document only as text nodes.

const $ = (id) => document.getElementById(id);
const minute = 60_000;

// ---- storage: may be forbidden or full; the page then forgets on reload, and works ------------------------------------

const storage = {
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { /* forgotten on reload */ } },
  remove(key) { try { localStorage.removeItem(key); } catch { /* was never there */ } },
  keys() { try { return Object.keys(localStorage); } catch { return []; } },
};

function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// All tabs of this browser are one client to the office: they share refs as they share the outbox.
const client = storage.get('pigeon.client') ?? randomName();
storage.set('pigeon.client', client);

// ---- state --------------------------------------------------------------------------------------------------------------

let self = { name: '', group: '' };
const people = new Map();    // who → person
const talks = new Map();     // who → talk
const outbox = new Map();    // ref → {ref, to, text, time, failed}
const previews = new Map();  // who → the last message
const asked = new Map();     // ref of a history request → {who, before}, or {who, glance: true} for the list's sake
const announced = new Map(); // who → highest id that was read out
let open = null;             // who
let wantedName = null;       // a rename that the office has not confirmed
let page = null;             // version of the page that the office serves
let peopleKnown = false;

function talkOf(who) {
  let talk = talks.get(who);
  if (!talk) talks.set(who, talk = { messages: [], loaded: false, loading: null, more: false, fresh: null, readUpTo: 0 });
  return talk;
}

// ---- outbox -------------------------------------------------------------------------------------------------------------

const outboxPrefix = 'pigeon.outbox.';

const settled = new Set();  // refs that are done with: another tab's note that it sent one may come later than the answer

function readOutbox(key) {
  const ref = key.slice(outboxPrefix.length);
  const text = storage.get(key);
  // What another tab has settled is kept here until its message comes, or is repeated, so that nothing flickers.
  if (!text && outbox.get(ref)?.failed) outbox.delete(ref);
  if (!text || settled.has(ref)) return;
  try { outbox.set(ref, { ...JSON.parse(text), ref }); } catch { storage.remove(key); }
}

for (const key of storage.keys()) if (key.startsWith(outboxPrefix)) readOutbox(key);

function keepInOutbox(entry) {
  outbox.set(entry.ref, entry);
  storage.set(outboxPrefix + entry.ref, JSON.stringify(entry));
}

function settle(ref) {
  settled.add(ref);
  outbox.delete(ref);
  storage.remove(outboxPrefix + ref);
}

function write(to, text) {
  const entry = { ref: randomName(), to, text, time: Date.now() };
  keepInOutbox(entry);
  say({ type: 'send', ref: entry.ref, to, text });
  const talk = talkOf(to);
  talk.fresh = null;
  sticking = true;
  changed();
}

// The same ref makes the repetition harmless, so whatever is not answered may be said again.
function repeatOutbox() {
  const due = [...outbox.values()].filter((entry) => !entry.failed).sort((a, b) => a.time - b.time);
  for (const { ref, to, text } of due) say({ type: 'send', ref, to, text });
}

// ---- connection ---------------------------------------------------------------------------------------------------------

const firstDelay = 250;
const lastDelay = 5000;
let socket = null;
let link = 'connecting';  // connecting, ready, lost
let delay = firstDelay;
let retryTimer = 0;
let pongTimer = 0;
let lostTimer = 0;    // until the banner says that the connection is lost: a short loss is nobody's business
let noticeTimer = 0;

function say(message) {
  if (link === 'ready' && socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function connect() {
  clearTimeout(retryTimer);
  if (socket) return;
  if (link !== 'ready') setLink('connecting');
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const mine = socket = new WebSocket(`${scheme}//${location.host}/ws?client=${client}`);
  mine.onmessage = (event) => {
    if (mine !== socket) return;
    clearTimeout(pongTimer);
    hear(JSON.parse(event.data));
  };
  mine.onclose = () => { if (mine === socket) lose(); };
}

function lose() {
  const gone = socket;
  socket = null;
  clearTimeout(pongTimer);
  gone?.close();
  setLink('lost');
  for (const talk of talks.values()) talk.loading = null;
  asked.clear();
  clearTimeout(retryTimer);
  retryTimer = setTimeout(connect, delay * (0.85 + Math.random() * 0.3));
  delay = Math.min(delay * 2, lastDelay);
}

function retryNow() {
  delay = firstDelay;
  if (socket?.readyState === WebSocket.OPEN) checkAlive(3000); else if (!socket) connect();
}

// Browsers do not tell that a cable was pulled; an unanswered ping does.
function checkAlive(patience) {
  if (socket?.readyState !== WebSocket.OPEN) return;
  socket.send('{"type":"ping"}');
  clearTimeout(pongTimer);
  pongTimer = setTimeout(lose, patience);
}

setInterval(() => checkAlive(10_000), 20_000);
setInterval(repeatOutbox, 15_000);
addEventListener('online', retryNow);
addEventListener('pageshow', (event) => { if (event.persisted) retryNow(); });

function setLink(state) {
  link = state;
  if (state === 'ready') {
    clearTimeout(lostTimer);
    lostTimer = 0;
    $('banner').hidden = true;
  } else {
    lostTimer ||= setTimeout(showLost, 1200);
  }
  changed();
}

function showLost() {
  $('banner').textContent = 'No connection to pigeon. Trying again; what you write is sent as soon as it is back.';
  $('banner').hidden = false;
}

function notice(text) {
  $('banner').textContent = text;
  $('banner').hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { if (link === 'ready') $('banner').hidden = true; else showLost(); }, 6000);
}

// ---- what the office says -----------------------------------------------------------------------------------------------

const hearing = {
  hello(news) {
    if (page !== null && page !== news.page) return location.reload();  // a newer pigeon came back
    page = news.page;
    self = news.self;
    people.clear();
    for (const person of news.people) people.set(person.who, person);
    peopleKnown = true;
    delay = firstDelay;
    setLink('ready');
    if (wantedName !== null) say({ type: 'rename', name: wantedName });
    repeatOutbox();
    for (const talk of talks.values()) Object.assign(talk, { loading: null, stale: true, readUpTo: 0 });
    if (open) fetchNewest(open);
    glance();
  },
  self(news) {
    self = news.self;
    if (wantedName === self.name) wantedName = null;
  },
  person(news) { people.set(news.person.who, news.person); },
  message(news) {
    const { message, unread, ref } = news;
    const person = people.get(message.who);
    if (person) person.unread = unread;
    if (ref && outbox.has(ref)) adoptRow(ref, message.id);
    if (ref) settle(ref);
    preview(message);
    const talk = talks.get(message.who);
    if (talk?.loaded) mergeMessage(talk, message);
    if (!message.outgoing) announce(message);
  },
  history(news) {
    const request = asked.get(news.ref);
    if (!request) return;
    asked.delete(news.ref);
    if (news.messages.length) preview(news.messages.at(-1));
    if (request.glance) return;
    const talk = talkOf(request.who);
    talk.loading = null;
    if (request.before) mergeOlder(talk, news); else mergeNewest(talk, news);
  },
  error(news) {
    const entry = outbox.get(news.ref);
    const request = asked.get(news.ref);
    if (entry) keepInOutbox({ ...entry, failed: news.text });
    asked.delete(news.ref);
    if (request?.glance) return;
    if (request) {
      talkOf(request.who).loading = null;
      talkOf(request.who).more = false;  // asking again would be refused again
    }
    if (!news.ref) wantedName = null;
    if (!entry) notice(news.text);
  },
  pong() {},
};

function hear(news) {
  hearing[news.type]?.(news);
  markReadIfSeen();
  changed();
}

// ---- conversations ------------------------------------------------------------------------------------------------------

function fetchHistory(who, before, limit) {
  const talk = talkOf(who);
  if (talk.loading !== null || link !== 'ready') return;
  const ref = randomName();
  talk.loading = before;
  asked.set(ref, { who, before });
  say({ type: 'history', ref, who, before, limit });
}

function preview(message) {
  if (message.id >= (previews.get(message.who)?.id ?? 0)) previews.set(message.who, message);
}

// The last words with those at the top of the list, to be shown in it.
function glance() {
  const rank = (person) => (person.unread > 0 ? 0 : person.here ? 1 : 2);
  for (const { who } of [...people.values()].sort((a, b) => rank(a) - rank(b) || b.seen - a.seen).slice(0, 40)) {
    const ref = randomName();
    asked.set(ref, { who, glance: true });
    say({ type: 'history', ref, who, limit: 1 });
  }
}

function fetchNewest(who) {
  fetchHistory(who, 0, Math.min(Math.max(talkOf(who).messages.length, 50), 200));
}

function fetchOlder() {
  const talk = talks.get(open);
  if (talk?.loaded && talk.more && !talk.stale && talk.messages.length) fetchHistory(open, talk.messages[0].id, 50);
}

// A queue may deliver twice, so an older state of the same message may come after a newer one.
function mergeMessage(talk, message) {
  const at = talk.messages.findLastIndex((known) => known.id <= message.id);
  if (talk.messages[at]?.id !== message.id) {
    talk.messages.splice(at + 1, 0, message);
    const seen = message.who === open && looking() && sticking;
    if (!message.outgoing && !seen) talk.fresh ??= message.id;
  } else if (talk.messages[at].state !== 'delivered') {
    talk.messages[at] = message;
  }
}

function mergeOlder(talk, news) {
  const oldest = talk.messages[0]?.id ?? Infinity;
  talk.messages.unshift(...news.messages.filter((message) => message.id < oldest));
  talk.more = news.more;
}

// Keeps what is already shown if the new piece joins it without a gap.
function mergeNewest(talk, news) {
  const first = news.messages[0]?.id ?? Infinity;
  const last = news.messages.at(-1)?.id ?? 0;
  const known = talk.messages;
  const joins = known.length > 0 && known.at(-1).id >= first;
  const older = joins ? known.filter((message) => message.id < first) : [];
  const newer = known.filter((message) => message.id > last && news.messages.length > 0);
  talk.more = older.length ? talk.more : news.more;
  talk.messages = [...older, ...news.messages, ...newer];
  talk.loaded = true;
  talk.stale = false;
  talk.fresh ??= talk.messages.find((message) => !message.outgoing && !message.read)?.id ?? null;
}

function looking() { return document.visibilityState === 'visible' && document.hasFocus(); }

function markReadIfSeen() {
  const person = people.get(open);
  const talk = talks.get(open);
  if (!person?.unread || !talk?.loaded || !looking() || !sticking || link !== 'ready') return;
  const last = talk.messages.findLast((message) => !message.outgoing);
  if (!last || last.id <= talk.readUpTo) return;  // said already; the answer is on its way
  talk.readUpTo = last.id;
  say({ type: 'read', who: open, up_to: last.id });
  for (const message of talk.messages) message.read = true;
  person.unread = 0;
}

function announce(message) {
  if ((announced.get(message.who) ?? 0) >= message.id) return;
  announced.set(message.who, message.id);
  const line = document.createElement('p');
  line.textContent = `${people.get(message.who)?.name ?? message.who}: ${message.text}`;
  $('announcer').append(line);
  setTimeout(() => line.remove(), 10_000);
}

// ---- words --------------------------------------------------------------------------------------------------------------

const locale = navigator.languages?.[0];
const timeFormat = new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit' });
const nearDay = new Intl.DateTimeFormat(locale, { weekday: 'long', day: 'numeric', month: 'long' });
const farDay = new Intl.DateTimeFormat(locale, { weekday: 'short', day: 'numeric', month: 'long', year: 'numeric' });
const weekday = new Intl.DateTimeFormat(locale, { weekday: 'short' });
const shortDay = new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'short' });
const collator = new Intl.Collator(locale, { sensitivity: 'base', numeric: true });
const fold = (text) => text.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();

function dayStart(time) { return new Date(time).setHours(0, 0, 0, 0); }

function daysSince(time) { return Math.round((dayStart(Date.now()) - dayStart(time)) / (24 * 60 * minute)); }

// As short as the list needs it.
function whenWords(time) {
  const days = daysSince(time);
  return (days <= 0 ? timeFormat : days < 7 ? weekday : shortDay).format(time);
}

function dayWords(time) {
  const days = daysSince(time);
  if (days === 0) return 'Today';
  if (days === 1) return 'Yesterday';
  return (days < 180 ? nearDay : farDay).format(time);
}

function seenWords(time) {
  if (!time) return 'Gone';
  if (dayStart(time) === dayStart(Date.now())) return `Last seen at ${timeFormat.format(time)}`;
  return `Last seen ${dayWords(time).replace('Yesterday', 'yesterday')}, ${timeFormat.format(time)}`;
}

function presenceOf(person) { return !person?.here ? 'gone' : person.away ? 'away' : 'here'; }

function initialsOf(name) {
  const words = name.trim().split(/[\s._-]+/u).filter(Boolean);
  const first = (word) => Array.from(word ?? '')[0] ?? '';
  const letters = first(words[0]) + (words.length > 1 ? first(words.at(-1)) : '');
  return /^[\p{Script=Latin}\p{Script=Cyrillic}\p{Script=Greek}\d]+$/u.test(letters) ? letters.toUpperCase() : first(words[0]);
}

function hueOf(text) {
  let hash = 7;
  for (const c of text) hash = (hash * 31 + c.codePointAt(0)) % 9973;
  return (hash * 47) % 360;
}

// ---- building blocks ----------------------------------------------------------------------------------------------------

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

function setText(node, text) { if (node.textContent !== text) node.textContent = text; }

function setData(node, name, value) {
  if (value === undefined || value === false) delete node.dataset[name];
  else if (node.dataset[name] !== String(value)) node.dataset[name] = value;
}

function paintAvatar(node, key, name, presence) {
  setText(node, initialsOf(name));
  node.style.setProperty('--hue', hueOf(key));
  setData(node, 'presence', presence);
}

function setBadge(node, count) {
  node.hidden = count === 0;
  setText(node, count > 99 ? '99+' : String(count));
}

// Makes `parent` have exactly these children, moving as little as possible: focus and scroll positions stay.
function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const child of wanted) {
    if (child === at) at = at.nextElementSibling; else parent.insertBefore(child, at);
  }
}

function linked(text) {
  const out = document.createDocumentFragment();
  let done = 0;
  for (const found of text.matchAll(/https?:\/\/[^\s<>"']+/giu)) {
    const address = found[0].replace(/[.,;:!?)\]}»”’。、，！？）】》]+$/u, '');
    out.append(text.slice(done, found.index));
    const anchor = element('a', '', address);
    anchor.href = address;
    anchor.target = '_blank';
    anchor.rel = 'noopener noreferrer';
    out.append(anchor);
    done = found.index + address.length;
  }
  out.append(text.slice(done));
  return out;
}

const fewEmoji = /^(?:\p{Extended_Pictographic}[\uFE0F\u{1F3FB}-\u{1F3FF}]*(?:\u200D\p{Extended_Pictographic}[\uFE0F\u{1F3FB}-\u{1F3FF}]*)*\s?){1,3}$/u;

// ---- render -------------------------------------------------------------------------------------------------------------

let due = false;

function changed() {
  if (due) return;
  due = true;
  queueMicrotask(() => { due = false; render(); });
}

function render() {
  renderSelf();
  renderPeople();
  renderTalk();
  const unread = [...people.values()].reduce((sum, person) => sum + person.unread, 0);
  const elsewhere = unread - (people.get(open)?.unread ?? 0);
  const name = people.get(open)?.name;
  document.title = `${unread ? `(${unread}) ` : ''}${name ? `${name} · ` : ''}pigeon`;
  setBadge($('back-count'), elsewhere);
  $('back').setAttribute('aria-label', `Back to the list of people${elsewhere ? `, ${elsewhere} unread` : ''}`);
}

function renderSelf() {
  const name = wantedName ?? self.name;
  if (peopleKnown) setText($('me-label'), name || 'Choose a name');
  if (peopleKnown) paintAvatar($('me-avatar'), 'me', name || '?');
  $('me-name').setAttribute('aria-label', `Your name: ${name}. Change it.`);
  setData($('link'), 'state', link === 'lost' ? 'connecting' : link);
  setText($('link-text'), link === 'ready' ? 'Connected' : peopleKnown ? 'Reconnecting…' : 'Connecting…');
}

const rows = new Map();  // who → the person's button, or section → its heading
let searched = '';
let lingering = null;    // opened from the section "New", and stays there until another is opened

function sectionOf(person) {
  if (person.unread > 0 || person.who === lingering) return 'New';
  return { here: 'Here', away: 'Away', gone: 'Gone' }[presenceOf(person)];
}

function matches(person) {
  const haystack = fold(`${person.name} ${person.group} ${person.user} ${person.host} ${person.address}`);
  return fold(searched).split(/\s+/u).every((word) => haystack.includes(word));
}

function renderPeople() {
  const shown = [...people.values()].filter(matches)
    .sort((a, b) => collator.compare(a.name, b.name) || (a.who < b.who ? -1 : 1));
  const wanted = [];
  for (const section of ['New', 'Here', 'Away', 'Gone']) {
    const members = shown.filter((person) => sectionOf(person) === section);
    const count = section === 'New' ? members.filter((person) => person.unread > 0).length : members.length;
    if (members.length) wanted.push(headingFor(section, count), ...members.map(rowFor));
  }
  const focused = document.activeElement;
  arrange($('people'), wanted);
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  const entry = $('people').querySelector('.person[aria-current]') ?? $('people').querySelector('.person');
  for (const row of $('people').querySelectorAll('.person')) row.tabIndex = row === entry ? 0 : -1;
  renderNobody(shown.length);
}

function headingFor(section, count) {
  let heading = rows.get(`section ${section}`);
  if (!heading) {
    rows.set(`section ${section}`, heading = element('h2', '', section));
    heading.append(element('span'));
  }
  setText(heading.lastChild, count ? String(count) : '');
  return heading;
}

function rowFor(person) {
  let row = rows.get(person.who);
  if (!row) {
    rows.set(person.who, row = element('button', 'person'));
    row.type = 'button';
    const text = element('span', 'person-text');
    const name = element('span', 'person-name');
    name.append(element('bdi'));
    text.append(name, element('span', 'person-detail'));
    const side = element('span', 'person-side');
    side.append(element('time'), element('span', 'badge'));
    row.append(element('span', 'avatar'), text, side);
    row.addEventListener('click', () => show(person.who));
  }
  const presence = presenceOf(person);
  setData(row, 'who', person.who);
  setData(row, 'presence', presence);
  setData(row, 'unread', person.unread > 0 ? person.unread : undefined);
  if (person.who === open) row.setAttribute('aria-current', 'true'); else row.removeAttribute('aria-current');
  row.setAttribute('aria-label', `${person.name}, ${presence}${person.unread ? `, ${person.unread} unread` : ''}`);
  paintAvatar(row.children[0], person.who, person.name, presence);
  setText(row.querySelector('bdi'), person.name);
  renderDetail(row.querySelector('.person-detail'), person);
  const last = previews.get(person.who);
  setText(row.querySelector('time'), last ? whenWords(last.time) : '');
  setBadge(row.querySelector('.badge'), person.unread);
  return row;
}

function renderDetail(node, person) {
  const draft = person.who === open ? '' : draftOf(person.who).trim();
  const preview = previews.get(person.who);
  const text = draft || (preview ? `${preview.outgoing ? 'You: ' : ''}${preview.text}` : person.group || person.who);
  const line = text.replace(/\s+/gu, ' ').slice(0, 120);
  node.dir = 'auto';
  if (!draft) return setText(node, line);
  if (node.textContent === `Draft: ${line}`) return;
  node.replaceChildren(element('i', '', 'Draft: '), line);
}

function renderNobody(count) {
  const empty = count === 0 && (peopleKnown || link === 'lost');
  $('people').hidden = empty;
  $('people-empty').hidden = !empty;
  if (!empty) return;
  const found = people.size > 0;
  setText($('people-empty-title'), found ? `Nobody matches “${searched}”` : peopleKnown ? 'Nobody here yet' : 'Pigeon is not running');
  setText($('people-empty-text'), found ? 'Try a part of the name, the group or the computer.'
    : peopleKnown ? 'Everybody who runs IP Messenger or pigeon on this network appears here by themselves.'
    : 'Start it with ./run; this page connects by itself.');
}

const lines = new Map();  // key of a line in the open conversation → element
let linesOf = null;       // whose conversation `lines` holds
let sticking = true;      // at the newest message, and staying there
let missed = 0;           // arrived below while not sticking

// A message that leaves the outbox keeps its place in the document.
function adoptRow(ref, id) {
  const row = lines.get(`o${ref}`);
  if (!row) return;
  lines.delete(`o${ref}`);
  lines.set(`m${id}`, row);
}

function renderTalk() {
  const person = people.get(open);
  $('app').dataset.view = open ? 'talk' : 'list';
  $('nobody').hidden = Boolean(open);
  $('pick').hidden = people.size === 0;
  $('nobody-yet').hidden = people.size > 0;
  $('conversation').hidden = !open;
  if (!open) return;
  const name = person?.name ?? open;
  const presence = presenceOf(person);
  paintAvatar($('talk-avatar'), open, name, presence);
  setText($('talk-name'), name);
  const words = { here: 'Here', away: 'Away', gone: seenWords(person?.seen) }[presence];
  setText($('talk-detail'), [words, person?.group, open].filter(Boolean).join('  ·  '));
  $('text').placeholder = presence === 'gone' ? 'Write now, delivered when back' : 'Write a message';
  $('text').setAttribute('aria-label', `Message to ${name}`);
  renderLog(name);
}

function renderLog(name) {
  const talk = talkOf(open);
  if (linesOf !== open) {
    lines.clear();
    linesOf = open;
    sticking = true;
    missed = 0;
  }
  const calm = lines.size === 0;
  const anchor = sticking ? null : anchorNow();
  const wanted = linesFor(talk, name, calm);
  arrange($('log'), wanted);
  const keep = new Set(wanted);
  for (const [key, line] of lines) if (!keep.has(line)) lines.delete(key);
  renderLogEmpty(talk, wanted.length, name);
  $('older').hidden = !(talk.loading > 0);
  if (sticking) stick(); else if (anchor) $('scroll').scrollTop += anchor.line.getBoundingClientRect().top - anchor.top;
  $('jump').hidden = sticking;
  if (sticking) missed = 0;
  setBadge($('jump-count'), missed);
  if (talk.loaded && talk.more && $('scroll').scrollTop < 240) fetchOlder();
}

function anchorNow() {
  const top = $('scroll').getBoundingClientRect().top;
  for (const line of $('log').children) {
    const box = line.getBoundingClientRect();
    if (box.bottom > top) return { line, top: box.top };
  }
  return null;
}

function stick() { $('scroll').scrollTop = $('scroll').scrollHeight; }

function linesFor(talk, name, calm) {
  const waiting = [...outbox.values()].filter((entry) => entry.to === open).sort((a, b) => a.time - b.time);
  const all = [...talk.messages.map((message) => ({ ...message, key: `m${message.id}` })),
    ...waiting.map((entry) => ({ ...entry, key: `o${entry.ref}`, outgoing: true, state: entry.failed ? 'failed' : 'waiting' }))];
  const wanted = [];
  all.forEach((message, i) => {
    const before = all[i - 1];
    const after = all[i + 1];
    const newDay = !before || dayStart(before.time) !== dayStart(message.time);
    const fresh = talk.fresh !== null && message.id === talk.fresh;
    if (newDay) wanted.push(divider(`d${dayStart(message.time)}`, 'day', dayWords(message.time)));
    if (fresh) wanted.push(divider('fresh', 'fresh', 'New'));
    const first = newDay || fresh || !together(before, message);
    const last = !after || !together(message, after) || after.id === talk.fresh;
    wanted.push(lineFor(message, first, last, name, calm));
  });
  return wanted;
}

function together(a, b) {
  return a.outgoing === b.outgoing && b.time - a.time < 5 * minute && dayStart(a.time) === dayStart(b.time);
}

function divider(key, className, text) {
  let line = lines.get(key);
  if (!line) lines.set(key, line = element('div', className));
  line.setAttribute('role', 'listitem');
  setText(line, text);
  return line;
}

function lineFor(message, first, last, name, calm) {
  let line = lines.get(message.key);
  if (!line) lines.set(message.key, line = newLine(message, name, calm));
  setData(line, 'first', first ? '' : undefined);
  setData(line, 'last', last ? '' : undefined);
  if (line.dataset.state !== message.state || line.dataset.time !== String(message.time)) renderMeta(line, message);
  return line;
}

function newLine(message, name, calm) {
  const line = element('div', 'row');
  line.setAttribute('role', 'listitem');
  setData(line, 'mine', message.outgoing ? '' : undefined);
  line.classList.toggle('big', fewEmoji.test(message.text));
  line.classList.toggle('arriving', !calm && (message.id ?? Infinity) > (talkOf(open).messages.at(-2)?.id ?? 0));
  const bubble = element('div', 'bubble');
  bubble.dir = 'auto';
  bubble.append(linked(message.text));
  line.append(element('span', 'unseen', message.outgoing ? 'You: ' : `${name}: `), bubble, element('p', 'meta'));
  if (!sticking && !message.outgoing && line.classList.contains('arriving')) ++missed;
  return line;
}

function renderMeta(line, message) {
  setData(line, 'state', message.state);
  setData(line, 'time', message.time);
  const meta = line.lastChild;
  const when = element('time', '', timeFormat.format(message.time));
  when.dateTime = new Date(message.time).toISOString();
  meta.replaceChildren(when);
  if (!message.outgoing) return;
  meta.append(icon(message.state), element('span', message.state === 'failed' ? '' : 'unseen', stateWords(message)));
  if (message.state !== 'failed') return;
  meta.append(action('Send again', () => { if (message.ref) settle(message.ref); write(message.who ?? message.to, message.text); }));
  if (message.ref) meta.append(action('Discard', () => { settle(message.ref); changed(); }));
}

function stateWords(message) {
  if (message.state === 'failed') return `Not sent. ${message.failed ?? 'It was refused.'}`;
  return message.state === 'delivered' ? 'delivered' : 'waiting to be delivered';
}

function action(words, act) {
  const button = element('button', '', words);
  button.type = 'button';
  button.addEventListener('click', act);
  return button;
}

function renderLogEmpty(talk, count, name) {
  const empty = count === 0 && talk.loaded;
  $('log').hidden = count === 0;
  $('log-empty').hidden = !empty;
  if (!empty) return;
  paintAvatar($('log-empty-avatar'), open, name);
  setText($('log-empty-title'), `You and ${name} have not written yet`);
  setText($('log-empty-text'), people.get(open)?.here ? 'Write something below; it arrives at once.' : 'Write something below; it is delivered when they are back.');
}

// ---- what is open -------------------------------------------------------------------------------------------------------

const narrow = matchMedia('(max-width: 640px)');
const draftOf = (who) => storage.get(`pigeon.draft.${who}`) ?? '';

function routed() {
  const found = /^#\/(.+)$/.exec(location.hash);
  try { return found && decodeURIComponent(found[1]); } catch { return null; }
}

// The address names who is open, so that the phone's back button, a reload and a bookmark do what they should.
function show(who) {
  if (who !== open) {
    const address = `#/${encodeURIComponent(who)}`;
    if (open) history.replaceState(history.state, '', address); else history.pushState({ opened: true }, '', address);
    follow();
  }
  if (!narrow.matches || matchMedia('(hover: hover)').matches) $('text').focus({ preventScroll: true });
}

function showList() {
  const left = open;
  if (history.state?.opened) history.back();
  else {
    history.replaceState(null, '', location.pathname);
    follow();
  }
  setTimeout(() => rows.get(left)?.focus(), 60);
}

function follow() {
  const who = routed();
  if (who === open) return;
  const left = talks.get(open);
  if (left) left.fresh = null;
  open = who;
  lingering = people.get(who)?.unread ? who : null;
  missed = 0;
  sticking = true;
  if (open) {
    $('text').value = draftOf(open);
    sized();
    fetchNewest(open);
  }
  markReadIfSeen();
  changed();
}

addEventListener('popstate', follow);
addEventListener('hashchange', follow);

// ---- writing ------------------------------------------------------------------------------------------------------------

function sized() {
  const text = $('text');
  text.style.height = '';
  text.style.height = `${Math.max(40, text.scrollHeight)}px`;
  $('send').disabled = text.value.trim() === '';
}

$('text').addEventListener('input', () => {
  if ($('text').value) storage.set(`pigeon.draft.${open}`, $('text').value); else storage.remove(`pigeon.draft.${open}`);
  sized();
});

$('text').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  $('composer').requestSubmit();
});

$('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('text').value.replace(/\s+$/u, '');
  if (!text.trim() || !open) return;
  $('text').value = '';
  storage.remove(`pigeon.draft.${open}`);
  sized();
  write(open, text);
  $('text').focus({ preventScroll: true });
});

// ---- own name -----------------------------------------------------------------------------------------------------------

function editName() {
  $('me-input').value = wantedName ?? self.name;
  $('me-name').hidden = true;
  $('me-input').hidden = false;
  $('me-input').select();
  $('me-input').focus();
}

function closeName(save) {
  if ($('me-input').hidden) return;
  const name = $('me-input').value.trim();
  const focused = document.activeElement === $('me-input');
  $('me-input').hidden = true;
  $('me-name').hidden = false;
  if (focused) $('me-name').focus();
  if (!save || !name || name === (wantedName ?? self.name)) return;
  wantedName = name;
  say({ type: 'rename', name });
  changed();
}

$('me-name').addEventListener('click', editName);
$('me-input').addEventListener('blur', () => closeName(true));
$('me-input').addEventListener('keydown', (event) => {
  if (event.isComposing) return;
  if (event.key === 'Enter') closeName(true);
  if (event.key === 'Escape') closeName(false);
  event.stopPropagation();
});

// ---- scrolling ----------------------------------------------------------------------------------------------------------

$('scroll').addEventListener('scroll', () => {
  const { scrollTop, scrollHeight, clientHeight } = $('scroll');
  const atEnd = scrollHeight - scrollTop - clientHeight < 60;
  if (atEnd !== sticking) {
    sticking = atEnd;
    markReadIfSeen();
    changed();
  }
  if (scrollTop < 240) fetchOlder(), changed();
}, { passive: true });

new ResizeObserver(() => { if (sticking) stick(); }).observe($('scroll'));
$('jump').addEventListener('click', () => {
  sticking = true;
  markReadIfSeen();
  changed();
  $('text').focus({ preventScroll: true });
});

// ---- keys and search ----------------------------------------------------------------------------------------------------

const editing = (node) => node instanceof HTMLInputElement || node instanceof HTMLTextAreaElement;
const shownRows = () => [...$('people').querySelectorAll('.person')];

function moveInList(event) {
  const all = shownRows();
  const at = all.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  if (to < 0) return $('search').focus();
  all[Math.min(to, all.length - 1)]?.focus();
}

$('people').addEventListener('keydown', moveInList);

$('search').addEventListener('input', () => { searched = $('search').value.trim(); changed(); });
$('search').addEventListener('keydown', (event) => {
  if (event.isComposing) return;
  const first = shownRows()[0];
  if (event.key === 'ArrowDown' && first) event.preventDefault(), first.focus();
  if (event.key === 'Enter' && first) {
    event.preventDefault();
    show(first.dataset.who);
    clearSearch();
  }
});

function clearSearch() {
  $('search').value = searched = '';
  changed();
}

function escape() {
  if (document.activeElement === $('search') && searched) return clearSearch();
  if (narrow.matches) return open ? showList() : document.activeElement?.blur();
  if (document.activeElement === $('search') && open) return $('text').focus();
  if (document.activeElement?.classList.contains('person') && open) return showList();
  (rows.get(open) ?? shownRows()[0])?.focus();
}

addEventListener('keydown', (event) => {
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Escape') event.preventDefault(), escape();
  if (event.key === '/' && !editing(document.activeElement) && !(narrow.matches && open)) {
    event.preventDefault();
    $('search').focus();
    $('search').select();
  }
});

$('back').addEventListener('click', showList);

// ---- the world outside --------------------------------------------------------------------------------------------------

function returned() {
  if (document.visibilityState === 'visible') retryNow();
  markReadIfSeen();
  changed();
}

document.addEventListener('visibilitychange', returned);
addEventListener('focus', () => { markReadIfSeen(); changed(); });
addEventListener('storage', (event) => {
  if (event.key?.startsWith(outboxPrefix)) readOutbox(event.key);
  if (event.key === `pigeon.draft.${open}` && document.activeElement !== $('text')) $('text').value = event.newValue ?? '', sized();
  changed();
});
// iOS lays its keyboard over the page and says so only here. When zoomed in, the height means something else.
visualViewport?.addEventListener('resize', () => {
  if (visualViewport.scale !== 1) return;
  document.body.style.height = `${visualViewport.height}px`;
  scrollTo(0, 0);
});
setInterval(changed, minute);  // "Today" becomes "Yesterday"

$('log').setAttribute('role', 'list');
follow();
render();
connect();
