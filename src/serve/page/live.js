// Keeps the parts of a page that are marked data-live as the node shows them now. Everything works without this, too.
'use strict';
(() => {
  const everyMs = 2000;
  const live = [...document.querySelectorAll('[data-live]')];
  const lost = document.getElementById('lost');

  async function renew() {
    const answer = await fetch(location.href, { headers: { Accept: 'text/html' }, credentials: 'same-origin' });
    if (answer.redirected && new URL(answer.url).pathname === '/login') {
      location.assign(answer.url);
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    for (const part of live) {
      const now = fresh.getElementById(part.id);
      // A part in which somebody has the focus stays, or it would jump away.
      if (now && now.innerHTML !== part.innerHTML && !part.contains(document.activeElement)) {
        part.replaceChildren(...now.childNodes);
      }
    }
    document.title = fresh.title;
  }

  async function turn() {
    if (!document.hidden && live.length > 0) {
      try {
        await renew();
        if (lost) lost.hidden = true;
      } catch {
        if (lost) lost.hidden = false;
      }
    }
    setTimeout(turn, everyMs);
  }

  for (const all of document.querySelectorAll('[data-all]')) {
    all.hidden = false;
    all.addEventListener('change', (event) => {
      for (const box of document.getElementsByClassName(all.dataset.all)) box.checked = event.target.checked;
    });
  }
  setTimeout(turn, everyMs);
})();
