'use strict';
// Replaces the view by each event; the server has escaped every value in it.
const view = document.getElementById('view');
const link = document.getElementById('link');
const show = (text, isLost) => {
  if (link.textContent !== text) link.textContent = text;
  link.classList.toggle('lost', isLost);
};
function listen() {
  const events = new EventSource('/events');
  let last = Date.now();
  events.onmessage = (event) => {
    last = Date.now();
    view.innerHTML = event.data;
    show('live', false);
  };
  // The browser connects again by itself, unless it was refused.
  const timer = setInterval(() => {
    if (Date.now() - last > 5000) {
      show(`no news since ${new Date(last).toLocaleTimeString()}, still trying`, true);
    }
    if (events.readyState === EventSource.CLOSED) {
      clearInterval(timer);
      setTimeout(listen, 2000);
    }
  }, 1000);
}
listen();
