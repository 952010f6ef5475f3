// page_test.mjs FAKE_OFFICE: drives the page in Debian's chromium against serve_fake_office, whose orders are listed in
// pigeon/serve/fake_office.cpp. browser.mjs has what it shares with office_test.mjs.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

import { bubble, bubbles, launch, openPage, presence, row, shot, state, step, until, write } from './browser.mjs';

// The web server with a pretended store behind it.
class Office {
  constructor(program) {
    this.process = spawn(program, ['0'], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.lines = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
  }
  async start() { this.address = `http://127.0.0.1:${await this.word('port')}`; }
  async word(name) {
    for (;;) {
      const { value, done } = await this.lines.next();
      if (done) throw new Error('the fake office is gone');
      if (value.startsWith(`${name} `)) return value.slice(name.length + 1);
    }
  }
  order(...lines) { this.process.stdin.write(lines.map((line) => `${line}\n`).join('')); }
  async sentTo(who) {
    this.order(`messages ${who}`);
    return JSON.parse(await this.word('messages'));
  }
  async up() {
    this.order('up');
    await this.word('port');
  }
  stop() { this.process.stdin.end(); }
}

const ana = 'ana@desk-4';
const li = '李@pc-12';
const personas = [
  `person ${ana} Ana_Lima here Design`, `person bo@mill Bo_Andersen away Workshop`, `person ${li} 李小龙 here 市场部`,
  'person omar@rtl عمر_الفاروق here التصميم', 'person zoe@old Zoë_Brandt gone Archive',
  'person ida@lab Ida_Krogh here Design', 'person long@x Wolfeschlegelsteinhausenbergerdorff_von_der_Überlänge here Legal',
  'person kim@gone Kim_Sørensen gone', 'person raj@ops Raj_Patel away Operations'];

// ---- what the page must do ----------------------------------------------------------------------------------------------

async function peopleAppear(page, office) {
  await page.getByText('Nobody here yet').waitFor();
  await shot(page, 'desktop-nobody');
  office.order(...personas);
  await until('nine people', async () => (await page.locator('.person').count()) === 9);
  assert.match(await row(page, ana).getAttribute('aria-label'), /^Ana Lima, here$/);
  office.order(`person ${ana} Ana_Lima away Design`);
  await presence(page, ana, 'away');
  office.order(`person ${ana} Ana_Lima here Design`);
  await presence(page, ana, 'here');
}

async function searchFinds(page) {
  await page.locator('body').press('/');
  await page.keyboard.type('zoe');
  await until('one match', async () => (await page.locator('.person').count()) === 1);
  await page.fill('#search', 'nobody at all');
  await page.getByText('Nobody matches').waitFor();
  await page.press('#search', 'Escape');
  assert.equal(await page.locator('.person').count(), 9);
}

async function messagesPassBothWays(page, office) {
  office.order(`receive ${ana} Are you coming to lunch?`);
  await until('an unread mark', async () => (await row(page, ana).locator('.badge').textContent()) === '1');
  await until('the title counts', async () => (await page.title()).startsWith('(1)'));
  await row(page, ana).click();
  await bubble(page, 'Are you coming to lunch?').waitFor();
  await until('read when seen', async () => (await page.title()) === 'Ana Lima · pigeon');
  office.order('hold');
  await write(page, 'Yes, at noon.');
  await state(page, 'Yes, at noon.', 'waiting');
  office.order('release');
  await state(page, 'Yes, at noon.', 'delivered');
  office.order('fail');
  await write(page, 'This one fails');
  await state(page, 'This one fails', 'failed');
  await shot(page, 'desktop-failed');
  await bubble(page, 'This one fails').getByText('Send again').click();
  await state(page, 'This one fails', 'delivered');
  assert.deepEqual(await office.sentTo(ana), ['Yes, at noon.', 'This one fails']);
}

async function foreignTextIsOnlyText(page, office) {
  office.order(`receive ${ana} <img src=x onerror="document.title='pwned'"><script>1</script>`);
  await page.locator('.bubble', { hasText: '<img src=x' }).waitFor();
  assert.equal(await page.locator('.bubble img, .bubble script').count(), 0);
  office.order(`receive ${ana} javascript:alert(1) and https://example.org/a?b=1.`);
  await page.locator('.bubble a').waitFor();
  assert.deepEqual(await page.locator('.bubble a').evaluateAll((all) => all.map((a) => a.href)), ['https://example.org/a?b=1']);
  const refused = await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'document.body.dataset.inline = 1';
    document.body.append(script);
    return !document.body.dataset.inline;
  });
  assert.ok(refused, 'the policy lets no inline script run');
}

async function draftsStay(page) {
  await page.fill('#text', 'half a thought');
  await row(page, 'bo@mill').click();
  assert.equal(await page.inputValue('#text'), '');
  await page.getByText('have not written yet').waitFor();
  await shot(page, 'desktop-empty');
  await page.reload();
  await row(page, ana).click();
  await until('the draft', async () => (await page.inputValue('#text')) === 'half a thought');
  await page.fill('#text', '');
}

async function nameIsEditedInPlace(page) {
  await page.click('#me-name');
  await page.fill('#me-input', 'Mira Østergård');
  await page.press('#me-input', 'Enter');
  await until('the new name', async () => (await page.textContent('#me-label')) === 'Mira Østergård');
  await page.reload();
  await until('the office knows it', async () => (await page.textContent('#me-label')) === 'Mira Østergård');
  await page.click('#me-name');
  await page.fill('#me-input', 'not this');
  await page.press('#me-input', 'Escape');
  assert.equal(await page.textContent('#me-label'), 'Mira Østergård');
}

async function historyComesOnScrollUp(page, office) {
  office.order('seed ida@lab 160');
  await row(page, 'ida@lab').click();
  await bubble(page, 'old message 159').waitFor();
  assert.ok((await page.locator('.bubble').count()) <= 100);
  const box = await page.locator('#scroll').boundingBox();
  await page.mouse.move(box.x + 40, box.y + 100);
  await until('the oldest message', async () => {
    const before = await page.evaluate(() => {
      const at = document.querySelector('#scroll').getBoundingClientRect().top;
      return [...document.querySelectorAll('.row')].find((r) => r.getBoundingClientRect().bottom > at)?.textContent;
    });
    assert.ok(before);
    await page.mouse.wheel(0, -1500);
    return (await bubble(page, 'old message 0').count()) === 1;
  });
  const texts = await bubbles(page);
  assert.deepEqual(texts, Array.from({ length: 160 }, (_, i) => `old message ${i}`));
  office.order('receive ida@lab news while reading the past');
  await until('the button to the newest', async () => (await page.textContent('#jump-count')) === '1');
  await page.click('#jump');
  await until('read', async () => !(await page.title()).startsWith('('));
}

async function nothingIsLostOrDoubled(page, office) {
  await row(page, ana).click();
  const before = await office.sentTo(ana);
  office.order('lose');  // stored, but the server dies before it says so
  await write(page, 'stored, not answered');
  await page.locator('#banner').waitFor();
  await shot(page, 'desktop-offline');
  await write(page, 'written while away 1');
  await write(page, 'written while away 2');
  await state(page, 'written while away 1', 'waiting');
  office.order(`receive ${ana} arrived while away`);
  await office.up();
  await page.evaluate(() => dispatchEvent(new Event('online')));  // saves the rest of the pause
  await state(page, 'written while away 2', 'delivered');
  await bubble(page, 'arrived while away').waitFor();
  await page.locator('#banner').waitFor({ state: 'hidden' });
  office.order('drop');  // not even stored
  await write(page, 'dropped');
  await until('the loss is seen', async () => (await page.textContent('#link-text')) !== 'Connected');
  const address = page.url();
  await page.goto('about:blank');  // and the page itself is gone too
  await office.up();
  await page.goto(address);
  await state(page, 'dropped', 'delivered');
  const wanted = ['stored, not answered', 'written while away 1', 'written while away 2', 'dropped'];
  assert.deepEqual((await office.sentTo(ana)).slice(before.length), wanted);
  const shown = await bubbles(page);
  for (const text of [...wanted, 'arrived while away']) assert.equal(shown.filter((each) => each === text).length, 1, text);
}

async function tabsAgree(page, office) {
  const other = await page.context().newPage();
  await other.goto(page.url());
  await bubble(other, 'dropped').waitFor();
  await write(other, 'from the other tab');
  await state(page, 'from the other tab', 'delivered');
  await state(other, 'from the other tab', 'delivered');
  assert.equal((await office.sentTo(ana)).filter((text) => text === 'from the other tab').length, 1);
  assert.equal((await bubbles(page)).filter((text) => text === 'from the other tab').length, 1);
  await other.close();
}

async function keysSuffice(page) {
  await page.locator('#text').press('Escape');
  await until('focus in the list', () => page.evaluate(() => document.activeElement.classList.contains('person')));
  await page.keyboard.press('ArrowDown');
  const chosen = await page.evaluate(() => document.activeElement.dataset.who);
  await page.keyboard.press('Enter');
  await until('opened by key', () => page.evaluate((who) => decodeURIComponent(location.hash).endsWith(who), chosen));
  await page.keyboard.type('two');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('lines');
  await page.keyboard.press('Enter');
  await until('both lines', async () => (await bubbles(page)).includes('two\nlines'));
}

async function phoneShowsOneThingAtATime(page) {
  assert.ok(await page.locator('.side').isVisible());
  assert.ok(!(await page.locator('.talk').isVisible()));
  await row(page, ana).click();
  await bubble(page, 'arrived while away').waitFor();
  assert.ok(!(await page.locator('.side').isVisible()));
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0);
  const size = await page.locator('#text').evaluate((node) => getComputedStyle(node).fontSize);
  assert.equal(size, '16px', 'a smaller input makes phones zoom');
  await page.click('#back');
  await page.locator('.side').waitFor();
  await row(page, ana).click();
  await page.goBack();
  await page.locator('.side').waitFor();
}

// ---- pictures to look at ------------------------------------------------------------------------------------------------

function decorate(office) {
  office.order(`receive ${li} 今天下午三点开会，别忘了带上设计稿。🙂`, `receive ${li} https://example.org/plan/2026/overview?draft=3`,
    'receive omar@rtl مرحبا! هل يمكنك إرسال الملف الجديد؟', `receive ${ana} 🎉🎉`,
    `receive ${ana} Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft`);
}

async function pictures(browser, office, colorScheme, device) {
  const page = await openPage(browser, office.address, { device, scheme: colorScheme });
  await row(page, ana).waitFor();
  if (device === 'phone') await phoneShowsOneThingAtATime(page);
  await shot(page, `${device}-${colorScheme}-list`);
  await row(page, ana).click();
  await bubble(page, 'dropped').waitFor();
  await shot(page, `${device}-${colorScheme}-talk`);
  await page.evaluate(() => { location.hash = '#/omar@rtl'; });
  await page.locator('.bubble', { hasText: 'مرحبا' }).waitFor();
  await shot(page, `${device}-${colorScheme}-rtl`);
  await page.context().close();
}

async function picturesInBothSchemes(browser, office) {
  const kinds = ['light', 'dark'].flatMap((scheme) => [[scheme, 'desktop'], [scheme, 'phone']]);
  await Promise.all(kinds.map(([scheme, device]) => pictures(browser, office, scheme, device)));
}

// ---- run ----------------------------------------------------------------------------------------------------------------

async function main(program) {
  const browser = await launch();
  const office = new Office(program);
  try {
    await office.start();
    const errors = [];
    const page = await openPage(browser, office.address, { errors });
    for (const each of [peopleAppear, searchFinds, messagesPassBothWays, foreignTextIsOnlyText, draftsStay, nameIsEditedInPlace,
      historyComesOnScrollUp, nothingIsLostOrDoubled, tabsAgree, keysSuffice]) await step(each.name, () => each(page, office), page);
    decorate(office);
    await step('picturesInBothSchemes', () => picturesInBothSchemes(browser, office));
    assert.deepEqual(errors, []);
  } finally {
    await browser.close();
    office.stop();
  }
}

if (!process.argv[2]) {
  console.error('usage: page_test.mjs FAKE_OFFICE');
  process.exit(2);
}
await main(process.argv[2]);
