"""The web pages in a browser: Chromium, with its rules about origins, cookies and scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

DRIVER = "/usr/bin/chromedriver"
pytestmark = pytest.mark.skipif(not Path(DRIVER).exists(), reason="this machine has no Chromium with its driver")

SECONDS = 20
"""How long a page may take to show what is waited for, on a busy machine."""


@pytest.fixture
def browser():
    """Chromium without a window. Whether the certificate is the right one is another test's question."""
    options = webdriver.ChromeOptions()
    for option in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "ignore-certificate-errors", "no-proxy-server"):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(DRIVER))
    made.set_page_load_timeout(SECONDS)
    yield made
    made.quit()


def heading(browser) -> str:
    return browser.find_element(By.TAG_NAME, "h1").text


def text(browser) -> str:
    return browser.find_element(By.TAG_NAME, "body").text


def wait_for(browser, condition) -> None:
    WebDriverWait(browser, SECONDS).until(condition)


def sign_in(browser, url: str, user: str, password: str) -> None:
    browser.get(url)
    browser.find_element(By.NAME, "user").send_keys(user)
    browser.find_element(By.NAME, "password").send_keys(password)
    browser.find_element(By.CSS_SELECTOR, "main button, form button").click()


def test_an_administrator_signs_in_sees_the_services_and_signs_out(lab, node, browser):
    admin = lab.json["admin"]
    sign_in(browser, node.entry["web"], admin["user"], admin["password"])
    wait_for(browser, lambda page: "Cisco XCP Router" in page.page_source)
    assert heading(browser) == node.name
    assert "services up" in text(browser)
    # What the page's own policy refuses, or what is missing, the browser says here.
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    cookies = browser.get_cookies()
    assert cookies and all(cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Strict" for cookie in cookies)
    browser.find_element(By.CSS_SELECTOR, "form[action='/logout'] button").click()
    wait_for(browser, lambda page: page.find_elements(By.NAME, "password"))
    browser.get(node.entry["web"])
    assert browser.find_elements(By.NAME, "password"), "the session outlived the signing out"


def test_a_wrong_password_is_told_and_shows_nothing(lab, node, browser):
    sign_in(browser, node.entry["web"], lab.json["admin"]["user"], "not the password")
    wait_for(browser, lambda page: page.find_elements(By.CSS_SELECTOR, "[role=alert]"))
    assert browser.find_elements(By.NAME, "password")
    assert "Cisco XCP Router" not in browser.page_source


def test_the_page_fits_a_phone(lab, node, browser):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 3, "mobile": True})
    admin = lab.json["admin"]
    sign_in(browser, node.entry["web"], admin["user"], admin["password"])
    wait_for(browser, lambda page: "Cisco XCP Router" in page.page_source)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
